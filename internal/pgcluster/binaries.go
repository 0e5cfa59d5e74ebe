package pgcluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// binaries is one consistent set of server programs.
type binaries struct {
	dir     string // holds initdb and postgres
	version string // e.g. "15.18", the same for both
	major   int
}

func (b binaries) initdb() string   { return filepath.Join(b.dir, "initdb") }
func (b binaries) postgres() string { return filepath.Join(b.dir, "postgres") }

// installDirs are where packages put the programs. Debian keeps them out of PATH
// because several majors live side by side.
var installDirs = []string{
	"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
	"/usr/pgsql-*/bin",          // RHEL and its kin, from postgresql.org
	"/usr/local/pgsql/bin",      // built from source
	"/usr/bin",                  // Arch, Fedora
}

// findBinaries returns the newest set whose initdb and postgres agree. major
// other than 0 demands that major version: it is what the cluster was made with.
func findBinaries(ctx context.Context, dirs []string, major int) (binaries, error) {
	var problems []error
	var other []string
	for _, dir := range candidateDirs(dirs) {
		b, err := probe(ctx, dir)
		switch {
		case err != nil:
			problems = append(problems, err)
		case major != 0 && b.major != major:
			other = append(other, b.version)
		default:
			return b, nil
		}
	}
	if len(other) > 0 {
		return binaries{}, fmt.Errorf("%w: it needs PostgreSQL %d (Debian package postgresql-%d), found only %s",
			ErrVersion, major, major, strings.Join(other, ", "))
	}
	return binaries{}, errors.Join(append([]error{ErrNotInstalled}, problems...)...)
}

// candidateDirs lists existing folders with a postgres program, newest version
// first, each real folder once: links in /usr/local/bin lead to the same set.
func candidateDirs(patterns []string) []string {
	var dirs []string
	if patterns == nil {
		patterns = installDirs
		if p, err := exec.LookPath("postgres"); err == nil {
			patterns = append(slices.Clone(patterns), filepath.Dir(p))
		}
	}
	for _, pattern := range patterns {
		found, _ := filepath.Glob(filepath.Join(pattern, "postgres"))
		slices.SortFunc(found, func(a, b string) int { return cmp.Compare(pathVersion(b), pathVersion(a)) })
		for _, p := range found {
			if real, err := filepath.EvalSymlinks(p); err == nil {
				p = real
			}
			if d := filepath.Dir(p); !slices.Contains(dirs, d) {
				dirs = append(dirs, d)
			}
		}
	}
	return dirs
}

var pathNumber = regexp.MustCompile(`[0-9]+`)

// pathVersion is the first number of a path, so that 15 sorts below 17 and 9
// below 10.
func pathVersion(path string) int {
	n, _ := strconv.Atoi(pathNumber.FindString(path))
	return n
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) ((\d+)[.\w]*)`)

// probe runs both programs: a set that lies there but does not load (a missing
// library, another architecture, half an upgrade) must not be chosen.
func probe(ctx context.Context, dir string) (binaries, error) {
	b := binaries{dir: dir}
	for _, program := range []string{b.postgres(), b.initdb()} {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		cmd := exec.CommandContext(ctx, program, "--version")
		cmd.Env = serverEnv(dir)
		cmd.Dir = "/"
		out, err := cmd.Output()
		cancel()
		if err != nil {
			return b, fmt.Errorf("%s --version: %w", program, err)
		}
		m := versionText.FindSubmatch(out)
		if m == nil {
			return b, fmt.Errorf("%s --version answered %q", program, strings.TrimSpace(string(out)))
		}
		if b.version != "" && b.version != string(m[1]) {
			return b, fmt.Errorf("%s: postgres is %s but initdb is %s", dir, b.version, m[1])
		}
		b.version = string(m[1])
		b.major, _ = strconv.Atoi(string(m[2]))
	}
	return b, nil
}

// serverEnv is the whole environment of a server program. Nothing of the user's
// is inherited but what loading a program needs: PGDATA, PGPORT, PGOPTIONS, TZ or
// a locale would change the cluster behind our back.
func serverEnv(bin string) []string {
	env := []string{"PATH=" + bin + ":/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
	for _, k := range []string{"LD_LIBRARY_PATH", "TMPDIR"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return env
}
