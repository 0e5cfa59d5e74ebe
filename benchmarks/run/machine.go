package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// machine says in one line on what the figures were taken.
func machine(now time.Time, e env, took time.Duration, load string) string {
	mode := "make bench"
	if e.quick {
		mode = "make bench-quick"
	}
	return fmt.Sprintf("`%s`, %s, %s; %s, %d CPUs, %s of memory, %s, %s, %s; load average before: %s.",
		mode, now.UTC().Format("2006-01-02 15:04 UTC"), took.Round(time.Second),
		first("/proc/cpuinfo", `model name\s*:\s*(.+)`), runtime.NumCPU(), memory(), first("/etc/os-release", `PRETTY_NAME="([^"]+)"`),
		runtime.Version(), version("SoftHSM", "softhsm2-util", "--version"), load)
}

func first(path, pattern string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	m := regexp.MustCompile(pattern).FindSubmatch(raw)
	if m == nil {
		return "unknown"
	}
	return strings.TrimSpace(string(m[1]))
}

func memory() string {
	var kib int64
	if _, err := fmt.Sscan(first("/proc/meminfo", `MemTotal:\s+(\d+) kB`), &kib); err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.0f GiB", float64(kib)/(1<<20))
}

func version(name string, command ...string) string {
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return name
	}
	return name + " " + strings.TrimSpace(strings.SplitN(string(out), "\n", 2)[0])
}

// loadAverage of the last minute, before we begin.
func loadAverage() string { return first("/proc/loadavg", `^(\S+)`) }
