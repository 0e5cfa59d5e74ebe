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
