package worker

import "golang.org/x/sys/unix"

// locked is one page or more of memory that is never swapped out.
type locked struct {
	page []byte
	n    *int
}

// newLocked makes room for n bytes. Where the machine refuses to lock memory the
// page is at least ours alone, and overwritten after use.
func newLocked(n int) locked {
	page, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		page = make([]byte, n)
	} else {
		_ = unix.Mlock(page)
	}
	return locked{page: page, n: new(int)}
}

func (l locked) set(b []byte)  { *l.n = copy(l.page, b) }
func (l locked) bytes() []byte { return l.page[:*l.n:*l.n] }
func (l locked) wipe()         { clear(l.page) }
