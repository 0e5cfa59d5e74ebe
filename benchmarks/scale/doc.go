// Command scale simulates N nodes of signet on one PostgreSQL primary, so that
// docs/scaling.md can say where a size stops and why, beyond what one machine
// measures.
//
// The model is the design and not more: requests arrive at random, wait for a core
// of a node, join the batch of their lane, which is stored when the lane's last
// batch has been; a batch takes CPU time of the database (a part for the batch, a
// part for each verdict), then one sync of the log that all batches share which
// came before it began, then a round trip. Costs are flags; the defaults are figures
// of one 2-core machine (benchmarks/RESULTS.md, docs/scaling.md) and are checked
// against its measured rates by the test. What is not in it: disks that read, a
// network that is full, garbage collection, neighbours.
//
// It keeps no state and needs nothing. The same flags give the same figures.
package main
