package broker

import (
	"bufio"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"
)

const (
	// maxLine bounds one line of a worker's output; the rest of it is dropped.
	maxLine = 4 << 10
	// maxLines may come in one lineWindow; what is more is counted, not logged.
	maxLines   = 100
	lineWindow = 10 * time.Second
)

// listen puts a worker's output into our log: its own records as records, what the
// module or a dying runtime prints as text. It never blocks the worker for long
// and never lets it fill the log.
func (b *Broker) listen(l *link, r *os.File) {
	defer r.Close()
	in := bufio.NewReaderSize(r, maxLine)
	var window time.Time
	lines, dropped := 0, 0
	for {
		line, err := in.ReadSlice('\n')
		for long := err; long == bufio.ErrBufferFull; { //nolint:errorlint // bufio returns it bare
			_, long = in.ReadSlice('\n')
		}
		if now := time.Now(); now.Sub(window) > lineWindow {
			if dropped > 0 {
				b.log.Warn("hsm: worker output dropped", slog.Int("worker", l.number), slog.Int("lines", dropped))
			}
			window, lines, dropped = now, 0, 0
		}
		if len(line) > 0 {
			if lines++; lines > maxLines {
				dropped++
				b.metrics.dropped.Inc()
			} else {
				b.relay(l, line)
			}
		}
		if err != nil && err != bufio.ErrBufferFull { //nolint:errorlint
			if err != io.EOF { //nolint:errorlint
				b.log.Debug("hsm: worker output ended", slog.Int("worker", l.number), slog.Any("cause", err))
			}
			return
		}
	}
}

// relay logs one line.
func (b *Broker) relay(l *link, line []byte) {
	var record map[string]any
	if line[0] == '{' && json.Unmarshal(line, &record) == nil {
		msg, isRecord := record[slog.MessageKey].(string)
		name, _ := record[slog.LevelKey].(string)
		var level slog.Level
		if isRecord && level.UnmarshalText([]byte(name)) == nil {
			attrs := []slog.Attr{slog.Int("worker", l.number)}
			for _, k := range slices.Sorted(maps.Keys(record)) {
				if k != slog.MessageKey && k != slog.LevelKey && k != slog.TimeKey {
					attrs = append(attrs, slog.Any(k, record[k]))
				}
			}
			b.log.LogAttrs(b.ctx, level, msg, attrs...)
			return
		}
	}
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
		line = line[:len(line)-1]
	}
	b.log.LogAttrs(b.ctx, slog.LevelWarn, "hsm: worker output", slog.Int("worker", l.number), slog.String("text", string(line)))
}
