package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/signet-hsm/signet/internal/pg"
)

// An expansion reads our own database only, so it is tried until that is back:
// with a pause of at most a minute, 500 attempts are eight hours of outage.
const (
	eventAttempts = 500
	eventWorkers  = 4
	eventTimeout  = 20 * time.Second
	eventMaxPause = time.Minute
)

// keepDead is how long dead letters are kept; delivered ones go after an hour.
const keepDead = 30 * 24 * time.Hour

// RunnerConfig makes a Runner. DB and Consumers are required.
type RunnerConfig struct {
	DB        *pgxpool.Pool
	Consumers []Consumer
	Poll      time.Duration // how often each queue is looked at; 0: 250 ms
	// Listen wakes the runner up by NOTIFY as well; it holds one connection and
	// does not work through a pooler in transaction mode.
	Listen bool
	Grace  time.Duration // how long Run waits for deliveries under way; 0: 10 s
	Now    func() time.Time
	Logger *slog.Logger
	// Metrics registers signet_outbox_*; nil registers nothing.
	Metrics prometheus.Registerer
}

// Runner delivers.
type Runner struct {
	c         RunnerConfig
	consumers map[string]*Consumer
	longest   time.Duration // time-out of all consumers
	metrics   *metrics
	stopping  atomic.Bool
}

// NewRunner makes a Runner; it does not touch the database.
func NewRunner(c RunnerConfig) (*Runner, error) {
	if c.DB == nil || len(c.Consumers) == 0 {
		return nil, errors.New("outbox: DB and Consumers are required")
	}
	set(&c.Poll, 250*time.Millisecond)
	set(&c.Grace, 10*time.Second)
	if c.Poll < 10*time.Millisecond || c.Grace < 0 {
		return nil, errors.New("outbox: Poll or Grace is out of range")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Runner{c: c, consumers: map[string]*Consumer{}, longest: eventTimeout}
	for i := range c.Consumers {
		k := c.Consumers[i]
		if err := k.defaults(); err != nil {
			return nil, err
		}
		if r.consumers[k.Name] != nil {
			return nil, fmt.Errorf("outbox: two consumers named %s", k.Name)
		}
		r.consumers[k.Name] = &k
		r.longest = max(r.longest, k.Timeout)
	}
	var err error
	r.metrics, err = newMetrics(c.Metrics)
	return r, err
}

// Run delivers until ctx ends, then waits for what is under way and returns nil.
// An error means that it could not start; fault.ErrUnavailable for a database
// that is away. It must not run twice at a time.
func (r *Runner) Run(ctx context.Context) error {
	r.stopping.Store(false)
	client, err := river.NewClient(riverpgxv5.New(r.c.DB), r.river())
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	over := context.AfterFunc(ctx, func() { r.stopping.Store(true) })
	defer over()
	if err := client.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return pg.Unavailable(fmt.Errorf("outbox: start: %w", err))
	}
	<-client.Stopped()
	return nil
}

func (r *Runner) river() *river.Config {
	workers := river.NewWorkers()
	river.AddWorker(workers, &expander{r: r})
	river.AddWorker(workers, &deliverer{r: r})
	queues := map[string]river.QueueConfig{eventQueue: {MaxWorkers: eventWorkers}}
	for name, c := range r.consumers {
		queues[name] = river.QueueConfig{MaxWorkers: c.Workers}
	}
	return &river.Config{
		Queues: queues, Workers: workers, Logger: r.c.Logger,
		PollOnly: !r.c.Listen, FetchPollInterval: r.c.Poll, FetchCooldown: min(r.c.Poll, 50*time.Millisecond),
		JobTimeout: r.longest, RescueStuckJobsAfter: r.longest + time.Minute, SoftStopTimeout: r.c.Grace,
		CompletedJobRetentionPeriod: time.Hour, CancelledJobRetentionPeriod: keepDead, DiscardedJobRetentionPeriod: keepDead,
		// Rebuilding indexes is an operator's decision, not a job's at midnight.
		ReindexerIndexNames: []string{},
	}
}

// expander turns an event into its deliveries.
type expander struct {
	river.WorkerDefaults[eventArgs]
	r *Runner
}

// Timeout implements river.Worker.
func (x *expander) Timeout(*river.Job[eventArgs]) time.Duration { return eventTimeout }

// NextRetry implements river.Worker.
func (x *expander) NextRetry(job *river.Job[eventArgs]) time.Time {
	return x.r.c.Now().Add(pause(job.Attempt, time.Second, eventMaxPause))
}

// Work implements river.Worker. The deliveries appear in the transaction that
// completes the event, so that a crash expands it never or once.
func (x *expander) Work(ctx context.Context, job *river.Job[eventArgs]) (err error) {
	defer x.r.recovered("expand", &err)
	e, err := job.Args.Event.event()
	if err != nil {
		return river.JobCancel(err)
	}
	var jobs []river.InsertManyParams
	for name, c := range x.r.consumers {
		if !c.takes(e.Kind) {
			continue
		}
		targets, err := c.Targets(ctx, e)
		if err != nil {
			return x.r.interrupted(fmt.Errorf("targets of %s: %w", name, err))
		}
		for _, target := range targets {
			jobs = append(jobs, river.InsertManyParams{
				Args:       deliveryArgs{Consumer: name, Target: target, Event: job.Args.Event},
				InsertOpts: &river.InsertOpts{Queue: name, MaxAttempts: c.Attempts},
			})
		}
	}
	client := river.ClientFromContext[pgx.Tx](ctx)
	err = pg.InTx(ctx, x.r.c.DB, func(tx pgx.Tx) error {
		if len(jobs) > 0 {
			if _, err := client.InsertManyFastTx(ctx, tx, jobs); err != nil {
				return err
			}
		}
		_, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
		return err
	})
	return x.r.interrupted(err)
}
