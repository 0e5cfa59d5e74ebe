package main

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestCgroupLimit(t *testing.T) {
	t.Parallel()
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  int64
	}{
		"nothing there": {fstest.MapFS{}, 0},
		"no limit":      {fstest.MapFS{"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("max\n")}, 0},
		"container":     {fstest.MapFS{"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("536870912\n")}, 512 << 20},
		"the group above has less": {fstest.MapFS{
			"proc/self/cgroup":                                     file("0::/system.slice/signet.service\n"),
			"sys/fs/cgroup/system.slice/memory.max":                file("1048576\n"),
			"sys/fs/cgroup/system.slice/signet.service/memory.max": file("2097152\n"),
		}, 1 << 20},
		"version 1":            {fstest.MapFS{"proc/self/cgroup": file("5:memory:/x\n"), "sys/fs/cgroup/memory/memory.limit_in_bytes": file("1048576\n")}, 1 << 20},
		"version 1, no limit":  {fstest.MapFS{"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n")}, 0},
		"a path that goes out": {fstest.MapFS{"proc/self/cgroup": file("0::/../../etc\n"), "etc/memory.max": file("1\n")}, 0},
	} {
		require.Equal(t, c.want, cgroupLimit(c.files), name)
	}
}
