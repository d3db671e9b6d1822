package agent

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"coinop/agent/journal"
	"coinop/agent/telemetry"
	"coinop/agent/uplink"
	"coinop/protocol"
)

// told is what the shell tells of itself to the fleet's operators. A nil one does nothing.
type told struct {
	t              *telemetry.Telemetry
	asking         atomic.Bool // a buyer waits for an answer: the line is his
	records, ahead atomic.Int64
	free           atomic.Uint64
	temperatures   map[string]*thermometer // by sensor; fixed
}

// thermometer is its last reading, for who reads the metrics.
type thermometer struct {
	milli atomic.Int64
	known atomic.Bool
}

// temperature takes one over; known: false when there is none any more.
func (s *told) temperature(sensor string, milli int64, known bool) {
	if s == nil || s.temperatures[sensor] == nil {
		return
	}
	s.temperatures[sensor].milli.Store(milli)
	s.temperatures[sensor].known.Store(known)
}

// newTelemetry begins it, and lets what is logged go there too.
func newTelemetry(cfg *Config) (*told, error) {
	s := &told{temperatures: map[string]*thermometer{}}
	var gauges []telemetry.Gauge
	for _, t := range cfg.Thermometers {
		r := &thermometer{}
		s.temperatures[t.Name] = r
		gauges = append(gauges, telemetry.Gauge{
			Name: "coinop.temperature", Unit: "mCel", Help: "What a thermometer of the machine says.", Sensor: t.Name, Has: r.known.Load, Read: r.milli.Load,
		})
	}
	var err error
	s.t, err = telemetry.New(telemetry.Config{
		Device: cfg.Identity.Device, Software: cfg.Software, Every: cfg.Telemetry,
		Gauges: append(gauges, []telemetry.Gauge{
			{Name: "coinop.journal.records", Unit: "{record}", Help: "Sequence number of the journal's last record.", Read: s.records.Load},
			{Name: "coinop.journal.waiting", Unit: "{record}", Help: "Records the cloud is not known to hold.", Read: s.ahead.Load},
			{Name: "coinop.disk.free", Unit: "By", Help: "Room on the journal's disk.", Read: func() int64 { return int64(s.free.Load()) }}, //nolint:gosec // no disk is larger
		}...),
	})
	if err == nil {
		cfg.Log = slog.New(s.t.Handler(cfg.Log.Handler()))
	}
	return s, err
}

// look takes figures over from the goroutine that owns them.
func (s *told) look(d *Device, j *journal.Journal) {
	if s == nil {
		return
	}
	head := j.Head().Seq
	acked, _ := d.link.Acked()
	s.asking.Store(d.link.Waiting() > 0)
	s.records.Store(int64(head))       //nolint:gosec // far below
	s.ahead.Store(int64(head - acked)) //nolint:gosec // far below
}

// room is asked of the system, so not with every event.
func (s *told) room(j *journal.Journal) {
	if s != nil {
		s.free.Store(j.Free())
	}
}

// sale tells of one that has ended.
func (s *told) sale(j *journal.Journal, id protocol.SaleID) {
	if s == nil {
		return
	}
	if records, err := recordsOf(j, id); err == nil { // an error of the disk is told by others
		s.t.Sale(records)
	}
}

// tell publishes what there is, one after the other, until the connection ends. While a buyer waits
// for an answer nothing leaves: on a slow line he would wait for it too.
func (s *told) tell(ctx context.Context, ses *uplink.Session, d protocol.DeviceID) {
	if s == nil {
		return
	}
	for {
		b, err := s.t.Next(ctx)
		if err != nil {
			return
		}
		for s.asking.Load() && ctx.Err() == nil {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil || ses.Tell(ctx, protocol.TopicOf(d, b.Leaf), b.Bytes) != nil {
			s.t.Back(b)
			return
		}
	}
}

// end gives up what could not be told.
func (s *told) end() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.t.Close(ctx) // into a ring that nobody reads any more
}
