package pgcluster

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakeSet lays a folder with programs that only tell a version.
func fakeSet(t *testing.T, dir, postgres, initdb string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for name, version := range map[string]string{"postgres": postgres, "initdb": initdb} {
		if version != "" {
			script := "#!/bin/sh\necho '" + name + " (PostgreSQL) " + version + "'\n"
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
		}
	}
	return dir
}

func TestNewestConsistentSetWins(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fakeSet(t, filepath.Join(root, "9", "bin"), "9.6.24", "9.6.24")
	fakeSet(t, filepath.Join(root, "15", "bin"), "15.18", "15.18")
	fakeSet(t, filepath.Join(root, "17", "bin"), "17.2", "17.1") // half an upgrade
	fakeSet(t, filepath.Join(root, "18", "bin"), "18.4", "")     // clients' and server's packages apart
	fakeSet(t, filepath.Join(root, "19", "bin"), "nonsense", "nonsense")
	linked := filepath.Join(root, "local")
	require.NoError(t, os.Mkdir(linked, 0o755))
	require.NoError(t, os.Symlink(filepath.Join(root, "15", "bin", "postgres"), filepath.Join(linked, "postgres")))
	dirs := []string{filepath.Join(root, "*", "bin"), linked}

	b, err := findBinaries(t.Context(), dirs, 0)
	require.NoError(t, err)
	require.Equal(t, binaries{filepath.Join(root, "15", "bin"), "15.18", 15}, b)

	// A cluster keeps its major version.
	b, err = findBinaries(t.Context(), dirs, 9)
	require.NoError(t, err)
	require.Equal(t, "9.6.24", b.version)
	_, err = findBinaries(t.Context(), dirs, 14)
	require.ErrorIs(t, err, ErrVersion)
	require.ErrorContains(t, err, "postgresql-14")

	// A link alone leads to the whole set it belongs to.
	b, err = findBinaries(t.Context(), []string{linked}, 0)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(root, "15", "bin"), b.dir)
}

func TestNotInstalled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Start(t.Context(), Config{Dir: dir, binDirs: []string{filepath.Join(dir, "none")}})
	require.ErrorIs(t, err, ErrNotInstalled)
	require.ErrorContains(t, err, "Debian package postgresql ")

	broken := fakeSet(t, filepath.Join(dir, "bin"), "17.2", "17.1")
	_, err = Start(t.Context(), Config{Dir: dir, binDirs: []string{broken}})
	require.ErrorIs(t, err, ErrNotInstalled)
	require.ErrorContains(t, err, "postgres is 17.2 but initdb is 17.1")
	require.NoDirExists(t, filepath.Join(dir, "data"))
}

func TestInstalledSetWorks(t *testing.T) {
	t.Parallel()
	b, err := findBinaries(t.Context(), nil, 0)
	require.NoError(t, err)
	require.GreaterOrEqual(t, b.major, 13)
}
