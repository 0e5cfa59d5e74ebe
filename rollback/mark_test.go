package rollback

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMarkSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mark")
	f, m, err := openMark(path)
	require.NoError(t, err)
	require.Zero(t, m.Seq)
	require.NoFileExists(t, path)
	m.Seq, m.At = 7, time.Now().UTC()
	require.NoError(t, f.write(m))

	_, _, err = openMark(path)
	require.ErrorContains(t, err, "used by another process")
	f.close()
	f, again, err := openMark(path)
	require.NoError(t, err)
	require.Equal(t, m, again)
	f.close()
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestMarkThatIsNone(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "cut off": `{"node":"0b54`, "no node": `{"seq":4}`, "never beaten": `{"node":"6b7f4f0e-5a1a-4d43-a0c8-0d3fd2b6d2f1","seq":0}`,
		"negative": `{"node":"6b7f4f0e-5a1a-4d43-a0c8-0d3fd2b6d2f1","seq":-3}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "mark")
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			_, _, err := openMark(path)
			require.ErrorContains(t, err, "docs/restore.md")
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, text, string(raw), "left as it was, for who looks into it")
		})
	}
	_, _, err := openMark(filepath.Join(t.TempDir(), "no", "mark"))
	require.Error(t, err)
}

func FuzzMark(f *testing.F) {
	f.Add([]byte(`{"node":"6b7f4f0e-5a1a-4d43-a0c8-0d3fd2b6d2f1","seq":9,"at":"2026-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "mark")
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		file, m, err := openMark(path)
		if err != nil {
			return
		}
		defer file.close()
		require.Positive(t, m.Seq)
	})
}
