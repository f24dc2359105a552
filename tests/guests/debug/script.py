import os

def outer(n):
    return inner(n) + 1

def inner(n):
    os.write(1, b"from python %d\n" % n)
    return n

print(outer(41), flush=True)
