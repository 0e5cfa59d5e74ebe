package push_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/push"
)

// The file sender takes every push, also for a device that told no token.
func TestRecordForDevelopment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "push.jsonl")
	file, err := push.OpenFile(path)
	require.NoError(t, err)
	p := w.pusher(func(c *push.Config) { c.Record = file })
	w.device(p, "u", push.APNs, appleToken)
	w.register(pgtest.Alpha, "u", "ACTIVE")
	w.run(p)
	w.add(created("u"))
	lines := func() (out []push.Recorded) {
		f, err := os.Open(path)
		require.NoError(t, err)
		defer func() { _ = f.Close() }()
		for s := bufio.NewScanner(f); s.Scan(); {
			var r push.Recorded
			require.NoError(t, json.Unmarshal(s.Bytes(), &r))
			require.NotContains(t, s.Text(), appleToken)
			out = append(out, r)
		}
		return out
	}
	require.Eventually(t, func() bool { return len(lines()) == 2 }, soon, 5*time.Millisecond)
	platforms := map[push.Platform]int{}
	for _, l := range lines() {
		platforms[l.Platform]++
		require.Equal(t, "mtoken.operationInit", l.Extras["messageType"])
		require.Equal(t, l.Registration, l.Extras["activationId"])
	}
	require.Equal(t, map[push.Platform]int{push.APNs: 1, "": 1}, platforms)
	require.Empty(t, w.providers.requests())
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.NoError(t, file.Close())
}
