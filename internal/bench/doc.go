// Package bench measures what a machine can do with Fanfare: a command's flags come in, windows of load on real processes
// follow, and a table or JSON goes out.
//
// Throughput compares the whole pipeline with a bare loop of the same POSTs, Isolation healthy endpoints with and without
// neighbours in trouble, Replay live deliveries with and without a replay beside them, Ledger the lists over ten
// million deliveries, and Soak whether anything grows at a fixed rate. Receivers, pipeline and bare loop are processes of
// their own (Receiver and Bare are their commands), and the windows of all sides take turns, so that what the machine does
// meanwhile hits all.
//
// A benchmark asserts nothing but that the ledger holds all deliveries. When the context ends, every process that it
// started is stopped and its files are removed.
package bench
