package pgtest

// Where tells the folder and the postmaster of this binary's cluster.
func Where() (dir string, postmaster int) { return theOne.reaper.dir, theOne.cluster.PID() }
