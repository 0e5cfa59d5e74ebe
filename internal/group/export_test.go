package group

// Waiting counts the calls that wait and the flushes under way.
func Waiting[I, O any](g *Group[I, O]) int {
	n := 0
	for i := range g.lanes {
		l := &g.lanes[i]
		l.mu.Lock()
		n += len(l.waiting)
		if l.led {
			n++
		}
		l.mu.Unlock()
	}
	return n
}

// Flushing reports whether a batch is closed and under way.
func Flushing[I, O any](g *Group[I, O]) bool {
	for i := range g.lanes {
		l := &g.lanes[i]
		l.mu.Lock()
		flushing := l.flushing
		l.mu.Unlock()
		if flushing {
			return true
		}
	}
	return false
}
