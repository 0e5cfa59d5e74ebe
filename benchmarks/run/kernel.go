package main

// kernelTable is package signature alone, without storage or transport.
var kernelTable = table{
	name: "kernel", title: "Kernel: one core, no I/O", from: []string{"kernel"},
	about: "276 bytes of data, keys ready. \"Primitives\" is the sum of the hashes, ciphers and agreements that the protocol demands, each from the standard library, on data of the same length; above 1 the kernel saves some of them (midstates of HMAC).",
	rows: []row{
		{what: "verify, 2 factors 3.1", ours: "Kernel/verify/ours", unit: "cpu-ns/op", bar: bar{most: 2000}},
		{what: "verify: allocations", ours: "Kernel/verify/ours", unit: "allocs/op", bar: none},
		{what: "token digest: allocations", ours: "Kernel/token_digest/ours", unit: "allocs/op", bar: none},
		{what: "verify", ours: "Kernel/verify/ours", against: "Kernel/verify/naive", bar: bar{least: 30}, note: "ECDH for each request"},
		{what: "verify", ours: "Kernel/verify/ours", against: "Kernel/verify/primitives", note: "primitives"},
		{what: "wrong signature, 20 counters", ours: "Kernel/wrong_over_20/ours", against: "Kernel/wrong_over_20/primitives", note: "primitives"},
		{what: "token digest", ours: "Kernel/token_digest/ours", against: "Kernel/token_digest/primitives", note: "primitives"},
		{what: "offline OTP, 8+8 digits", ours: "Kernel/offline_OTP/ours", against: "Kernel/offline_OTP/primitives", note: "primitives"},
		{what: "key tree of a registration", ours: "Kernel/key_tree/ours", against: "Kernel/key_tree/primitives", note: "primitives"},
		{what: "ECIES 3.3, request opened, answer sealed", ours: "Kernel/ECIES/ours", against: "Kernel/ECIES/primitives", note: "primitives"},
	},
}
