// Package survive keeps a panic in one goroutine from ending the process and, as every process meets the same data, the next one.
//
// In comes background work, out comes its error, or its panic as an error with the stack. Handlers of messages and of
// requests recover by themselves, as they know what to answer.
package survive
