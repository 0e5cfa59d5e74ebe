// Command hsm measures what package hsm makes of a SoftHSM2 token, beside the C
// program in benchmarks/rawc, miekg/pkcs11 alone and crypto11, in turns: every
// round goes through all of them. It prints Go's benchmark format for
// benchmarks/run, which starts it.
//
// Each side loads a copy of the module of its own, so that the state of one never
// serves another; the token, in /dev/shm where there is one, is the same for all.
// "raw" is one thread on the token's key; "ceiling" is two threads on two copies
// of the module with session copies of the key, the most that two cores get. "signet"
// is package hsm as it comes, "unguarded" without the hand-over to a goroutine that may
// hang, "tuned" with two copies of the module and session copies, the means of the ceiling.
//
// It owns the scratch tokens that it makes and removes. Exit code 1 when a
// measurement failed.
package main
