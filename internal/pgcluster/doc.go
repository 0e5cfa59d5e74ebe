// Package pgcluster runs a private PostgreSQL cluster for one signet process.
//
// It promises that a folder is all it needs: Start makes the cluster in it on
// first use, finds it again later, whatever way the last run ended, and Stop
// leaves it clean. The server listens on a unix socket only (no TCP port is ever
// opened), asks for a random password, and dies with the process that started
// it, even by kill -9. It never signals a postmaster of another data folder.
//
// Layout of the folder:
//
//	lock           flock held while a process owns the cluster
//	password       superuser's password, 0600, random
//	data/          PGDATA; made as data.new/ and renamed, so it is whole or absent
//	run/           the socket; a short folder in the temporary directory instead
//	               where the path would pass the 107 bytes a socket address holds
//	postgres.log   the server's own log; the previous one is postgres.log.1
//
// States: starting, ready, then stopped (Err is nil) or crashed (Err tells);
// Done closes on leaving ready. PostgreSQL refuses to run as root, so as root it
// runs as the user postgres, else nobody, who then owns data/ and run/; a parent
// folder closed to that user (such as /root) is passed by a descriptor.
//
// Owns: the folder. Callers: cmd/signet (dev), pgtest. A Cluster is safe for
// concurrent use. Linux only; elsewhere Start says so.
package pgcluster
