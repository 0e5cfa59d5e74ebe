package main

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"
)

// model is one installation and its load.
type model struct {
	nodes, cores, lanes int           // of each node
	maxBatch            int           // verdicts of one commit
	dbCores             int           // of the primary
	node                time.Duration // CPU of a node for each verdict, serving included
	batch, item         time.Duration // CPU of the database for a batch, and for each verdict in it
	sync                time.Duration // one write of the log to its disk
	trip                time.Duration // between node and database, there and back
	rate                float64       // verdicts a second that arrive; 0: callers
	callers             int           // of a closed loop
	requests            int
	seed                uint64
}

// outcome is what came of it.
type outcome struct {
	rate       float64 // verdicts a second that were answered
	p50, p99   time.Duration
	batch      float64 // verdicts of a commit, on average
	nodeBusy   float64 // part of the nodes' cores
	dbBusy     float64 // part of the primary's cores
	syncBusy   float64 // part of the time in which the log is being synced
	backlogged bool    // more arrived than were answered
}

type event struct {
	at   time.Duration
	turn int // of events at one time: the order of their making
	do   func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].turn < e[j].turn
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// servers is a queue in order of arrival before some that work alike.
type servers struct {
	s       *sim
	free    int
	waiting []job
	busy    time.Duration
}

type job struct {
	takes time.Duration
	then  func()
}

func (q *servers) work(takes time.Duration, then func()) {
	if q.free == 0 {
		q.waiting = append(q.waiting, job{takes, then})
		return
	}
	q.free--
	q.busy += takes
	q.s.after(takes, func() {
		q.free++
		if len(q.waiting) > 0 {
			next := q.waiting[0]
			q.waiting = q.waiting[1:]
			q.work(next.takes, next.then)
		}
		then()
	})
}

// lane stores one batch at a time.
type lane struct {
	waiting []func()
	storing bool
}

type sim struct {
	model
	now      time.Duration
	turn     int
	queue    events
	db       servers
	syncing  bool
	unsynced []func()
	syncs    time.Duration
	batches  int
	stored   int
}

func (s *sim) after(d time.Duration, do func()) {
	s.turn++
	heap.Push(&s.queue, event{s.now + d, s.turn, do})
}

// flush stores what waits in a lane.
func (s *sim) flush(l *lane) {
	if l.storing || len(l.waiting) == 0 {
		return
	}
	n := min(len(l.waiting), s.maxBatch)
	group := slices.Clone(l.waiting[:n])
	l.waiting = l.waiting[n:]
	l.storing = true
	s.batches++
	s.stored += n
	s.after(s.trip/2, func() {
		s.db.work(s.batch+time.Duration(n)*s.item, func() {
			s.commit(func() {
				s.after(s.trip/2, func() {
					l.storing = false
					for _, answer := range group {
						answer()
					}
					s.flush(l)
				})
			})
		})
	})
}

// commit is the log's: one sync serves all that had been written when it began.
func (s *sim) commit(then func()) {
	s.unsynced = append(s.unsynced, then)
	if s.syncing {
		return
	}
	s.syncing = true
	group := s.unsynced
	s.unsynced = nil
	s.syncs += s.sync
	s.after(s.sync, func() {
		s.syncing = false
		for _, done := range group {
			done()
		}
		if len(s.unsynced) > 0 {
			first := s.unsynced[0]
			s.unsynced = s.unsynced[1:]
			s.commit(first)
		}
	})
}

// run simulates until all requests are answered.
func (m model) run() outcome {
	s := &sim{model: m}
	s.db = servers{s: s, free: m.dbCores}
	random := rand.New(rand.NewPCG(m.seed, 1))
	cores := make([]servers, m.nodes)
	lanes := make([]lane, m.nodes*m.lanes)
	for i := range cores {
		cores[i] = servers{s: s, free: m.cores}
	}
	var times []time.Duration
	started := 0
	var lastArrival time.Duration
	var request func(again bool)
	request = func(again bool) {
		started++
		began, node := s.now, random.IntN(m.nodes)
		lastArrival = began
		l := &lanes[node*m.lanes+random.IntN(m.lanes)]
		cores[node].work(m.node, func() {
			l.waiting = append(l.waiting, func() {
				times = append(times, s.now-began)
				if again && started < m.requests {
					request(true)
				}
			})
			s.flush(l)
		})
	}
	if m.rate == 0 {
		for range min(m.callers, m.requests) {
			request(true)
		}
	} else {
		var arrive func()
		arrive = func() {
			request(false)
			if started < m.requests {
				s.after(time.Duration(random.ExpFloat64()/m.rate*float64(time.Second)), arrive)
			}
		}
		arrive()
	}
	for len(s.queue) > 0 {
		e := heap.Pop(&s.queue).(event)
		s.now = e.at
		e.do()
	}
	slices.Sort(times)
	var busy time.Duration
	for i := range cores {
		busy += cores[i].busy
	}
	whole := float64(s.now)
	return outcome{
		rate: float64(len(times)) / s.now.Seconds(), p50: times[len(times)/2], p99: times[len(times)*99/100],
		batch:    float64(s.stored) / float64(s.batches),
		nodeBusy: float64(busy) / whole / float64(m.nodes*m.cores), dbBusy: float64(s.db.busy) / whole / float64(m.dbCores),
		syncBusy:   float64(s.syncs) / whole,
		backlogged: m.rate > 0 && s.now-lastArrival > 100*time.Millisecond,
	}
}
