// Command small stands for binaries of other platforms.
package main

func main() {}
