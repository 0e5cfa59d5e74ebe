package pgcluster

import "errors"

var (
	// ErrNotInstalled: no usable pair of initdb and postgres was found.
	ErrNotInstalled = errors.New("PostgreSQL is not installed: install the Debian package postgresql (apt-get install postgresql)")
	// ErrVersion: the cluster was made by another major version than the binaries.
	ErrVersion = errors.New("the cluster belongs to another PostgreSQL version")
	// ErrInUse: another live process holds this folder.
	ErrInUse = errors.New("the folder is in use by another process")
	// ErrCrashed: the server ended without having been told to.
	ErrCrashed = errors.New("PostgreSQL ended unexpectedly")
	// ErrPassword: DIR/password is gone, and with it the way into the cluster.
	ErrPassword = errors.New("the cluster's password file is missing")
	// ErrUnsupported: private clusters need Linux.
	ErrUnsupported = errors.New("a private PostgreSQL cluster needs Linux: configure an external database instead")
)
