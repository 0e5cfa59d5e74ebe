package pgcluster

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// account is the unprivileged user the server runs as when we are root. The nil
// account stands for ourselves.
type account struct {
	name     string
	uid, gid int
}

// serverUser is nil unless we are root, which PostgreSQL refuses to run as.
func serverUser() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	var errs []error
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2); err != nil || uid == 0 {
			errs = append(errs, fmt.Errorf("user %s has uid %s: %w", name, u.Uid, err))
			continue
		}
		return &account{name: name, uid: uid, gid: gid}, nil
	}
	return nil, fmt.Errorf("running as root, and no user to run PostgreSQL as: %w", errors.Join(errs...))
}

// own gives path to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	if err := os.Lchown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("PostgreSQL must run as %s here: %w", a.name, err)
	}
	return nil
}
