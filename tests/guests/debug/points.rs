//! A Rust program: a structure, a vector, a thread, a panic that is caught.
use std::thread;

#[derive(Debug)]
struct Point {
    x: i32,
    y: i32,
}

#[inline(never)]
fn grow(points: &mut Vec<Point>, n: i32) {
    points.push(Point { x: n, y: n * n }); // grow
}

#[inline(never)]
fn sum(points: &[Point]) -> i32 {
    points.iter().map(|p| p.x + p.y).sum() // sum
}

fn main() {
    let mut points = Vec::new();
    for n in 1..=4 {
        grow(&mut points, n);
    }
    let all = thread::spawn(move || sum(&points)).join().unwrap(); // join
    println!("{all}"); // print
}
