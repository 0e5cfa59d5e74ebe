// Command run is the benchmark runner behind `make bench` and `make bench-quick`.
//
// It promises ratios and not only rates: each table names pairs, ours and what it
// is held against, that are measured alternately inside one run, and shows the
// median of the rounds' ratios with the smallest and the largest, the bar, and by
// how much it is reached or missed. A figure that could not be had is a row that
// says so, and the exit code is 1; nothing is estimated or carried over.
//
// A table reads the standard output of its sources (source.go): compiled test
// binaries (`go test -c`), the programs below benchmarks/, and the C program in
// benchmarks/rawc, all of which speak Go's benchmark format. What is compared with
// what, and the bars, stand as data in the tables*.go files. Out come, for each table, a region of
// benchmarks/RESULTS.md between two marks (what stands outside is kept: the history)
// and an SVG chart in benchmarks/charts.
//
// It owns those files and a scratch folder, and no process outlives it. Exit
// codes: 0 all rows measured (bars missed included: they are figures, not
// failures); 1 a row could not be measured; 2 wrong flags.
package main
