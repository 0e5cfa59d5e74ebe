package main

import (
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// defaultGCPercent: a server that lives on short-lived requests has little that
// stays, so letting the heap grow to five times of that costs some memory and saves a
// third of the CPU time of a call.
const defaultGCPercent = 400

// apply sets what the environment leaves open. A process can serve one node.
func (c RuntimeConfig) apply(log *slog.Logger) {
	percent, limit := "GOGC", "GOMEMLIMIT"
	if _, set := os.LookupEnv("GOGC"); !set {
		n := c.GCPercent
		if n == 0 {
			n = defaultGCPercent
		}
		debug.SetGCPercent(n)
		percent = strconv.Itoa(n)
	}
	if _, set := os.LookupEnv("GOMEMLIMIT"); !set {
		n := int64(c.MemoryLimitMiB) << 20
		if n == 0 {
			n = cgroupLimit(os.DirFS("/")) / 10 * 9
		}
		limit = "none"
		if n > 0 {
			debug.SetMemoryLimit(n)
			limit = strconv.FormatInt(n>>20, 10) + " MiB"
		}
	}
	log.Info("runtime", "gc_percent", percent, "memory_limit", limit)
}

// cgroupLimit is the least memory limit of the process's control group and those
// above it, in bytes; 0 without one. Version 2, and the one group that a container
// sees of version 1.
func cgroupLimit(root fs.FS) int64 {
	read := func(name string) string {
		raw, err := fs.ReadFile(root, name)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(raw))
	}
	least := int64(math.MaxInt64)
	take := func(name string) {
		// "max", or nothing, is no number; version 1 writes one near 2^63.
		if n, err := strconv.ParseInt(read(name), 10, 64); err == nil && n > 0 && n < 1<<60 {
			least = min(least, n)
		}
	}
	const mount = "sys/fs/cgroup"
	for _, line := range strings.Split(read("proc/self/cgroup"), "\n") {
		group, ok := strings.CutPrefix(line, "0::")
		if !ok {
			continue
		}
		for dir := path.Join(mount, group); strings.HasPrefix(dir, mount); dir = path.Dir(dir) {
			take(path.Join(dir, "memory.max"))
		}
	}
	take(mount + "/memory/memory.limit_in_bytes")
	if least == math.MaxInt64 {
		return 0
	}
	return least
}
