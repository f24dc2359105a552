// Goroutines that share a channel.
package main

import "fmt"

//go:noinline
func double(n int) int {
	result := n * 2 // double
	return result
}

func main() {
	results := make(chan int)
	for i := 1; i <= 3; i++ {
		go func(n int) { results <- double(n) }(i)
	}
	sum := 0
	for i := 0; i < 3; i++ {
		sum += <-results
	}
	fmt.Println(sum) // print
}
