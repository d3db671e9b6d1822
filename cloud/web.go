package cloud

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"coinop/cloud/api"
	"coinop/cloud/broker"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/protocol"

	"github.com/prometheus/client_golang/prometheus"
)

// ErrExposed means that the interface would listen where strangers reach it, and it knows no users.
var ErrExposed = errors.New("the HTTP interface has no users yet and listens on loopback addresses only")

// Loopback reports whether an address, host:port, can be reached from this machine only.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// listenAPI opens the listener of the interface.
func listenAPI(addr string) (net.Listener, error) {
	if !Loopback(addr) {
		return nil, fmt.Errorf("http address %s: %w; use 127.0.0.1 and an SSH tunnel", addr, ErrExposed)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	return l, nil
}

// serveAPI answers until ctx ends.
func serveAPI(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second}
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if srv.Shutdown(end) != nil {
			_ = srv.Close()
		}
	})
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// presence is who is connected, as up/conn and last wills tell it.
type presence struct {
	mu   sync.Mutex
	seen map[protocol.DeviceID]protocol.Conn
}

func (p *presence) tell(c protocol.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.Ticket = nil
	p.seen[c.Device] = c
}

func (p *presence) of(d protocol.DeviceID) protocol.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[d]
}

func (p *presence) online() (n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.seen {
		if c.Online {
			n++
		}
	}
	return n
}

// reader is the store as the interface reads it.
type reader struct{ *store.Store }

func (r reader) Sales(ctx context.Context, f api.SaleFilter, limit int) ([]protocol.SaleID, error) {
	tender := map[string]store.Tender{"card": store.Card, "cash": store.Cash}[f.Tender]
	return r.Store.Sales(ctx, store.SaleFilter{Device: f.Device, State: f.State, Tender: tender, Before: f.Before}, limit)
}

func (r reader) SalePayments(ctx context.Context, id protocol.SaleID) ([]payment.Payment, error) {
	return r.Payments(ctx, store.PaymentFilter{Sale: id}, 100)
}

// handler wires the interface over what runs.
func (s *shell) handler(reg *prometheus.Registry, b engine, st *store.Store, who *presence, version string) http.Handler {
	return api.New(api.Config{
		Ledger: reader{st}, Metrics: reg, Version: version,
		Devices: func(ctx context.Context) ([]api.Device, error) { return devices(ctx, st, who) },
		Health: func(ctx context.Context) api.Health {
			h := api.Health{OK: true, Store: "ok", Broker: "ok", Acquirers: map[string]bool{}, Devices: connected(b, who)}
			if r, ok := b.(*broker.Remote); ok {
				if up, of := r.Up(); up == 0 {
					h.OK, h.Broker = false, "no connection to "+r.Addr()
				} else if up < of {
					h.Broker = fmt.Sprintf("%d of %d connections to %s", up, of, r.Addr())
				}
			}
			if err := st.Health(ctx); err != nil {
				h.OK, h.Store = false, err.Error()
			}
			for _, a := range s.acquirers() {
				h.Acquirers[a.Name] = a.Up
			}
			return h
		},
	})
}

// connected is how many devices are: by the broker's own count, or by what up/conn told since we began.
func connected(b engine, who *presence) int64 {
	if own, ok := b.(*broker.Broker); ok {
		return own.Connected()
	}
	return who.online()
}

func devices(ctx context.Context, st *store.Store, who *presence) ([]api.Device, error) {
	all, err := st.Devices(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]api.Device, 0, len(all))
	for _, d := range all {
		head, err := st.Head(ctx, d.ID)
		if err != nil {
			return nil, err
		}
		c := who.of(d.ID)
		out = append(out, api.Device{
			ID: d.ID, Tenant: d.Tenant, Terminal: d.Merchant.TID, Link: d.Link, Online: c.Online, Reason: c.Reason, Connection: c.Connection,
			Software: c.Software, Records: uint64(head.Position.Seq), Stopped: head.Stopped,
		})
	}
	return out, nil
}

// gauge is one figure that is read when somebody asks.
type gauge struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func() float64
}

type figures []gauge

func (f figures) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range f {
		ch <- g.desc
	}
}

func (f figures) Collect(ch chan<- prometheus.Metric) {
	for _, g := range f {
		ch <- prometheus.MustNewConstMetric(g.desc, g.kind, g.read())
	}
}

// metrics are the counters of the parts. Names end in their unit; what only grows ends in _total.
func (s *shell) metrics(b engine, st *store.Store, who *presence) prometheus.Collector {
	var out figures
	add := func(kind prometheus.ValueType, name, help string, read func() float64) {
		out = append(out, gauge{prometheus.NewDesc("coinop_"+name, help, nil, nil), kind, read})
	}
	count := func(name, help string, read func() int64) {
		add(prometheus.CounterValue, name+"_total", help, func() float64 { return float64(read()) })
	}
	add(prometheus.GaugeValue, "devices_connected", "Devices that are connected.", func() float64 { return float64(connected(b, who)) })
	bs, rs := b.Stats(), s.parts.Relay.Stats()
	for _, r := range broker.Reasons() {
		desc := prometheus.NewDesc("coinop_broker_offences_total", "Connections closed, refused or slowed, and topics denied, by reason.",
			nil, prometheus.Labels{"reason": r.String()})
		out = append(out, gauge{desc, prometheus.CounterValue, func() float64 { return float64(bs.By(r)) }})
	}
	count("broker_refused", "CONNECTs that were refused.", bs.Refused.Load)
	count("broker_panics", "Connections that ended in a panic.", bs.Panics.Load)
	count("broker_takeovers", "Connections that took over an older one.", bs.Takeovers.Load)
	count("broker_busy", "Messages the relay had no room for.", bs.Busy.Load)
	count("broker_dropped", "Messages to devices that were dropped: no room, or lost with a connection.", bs.Dropped.Load)
	switch b := b.(type) {
	case *broker.Broker:
		count("broker_inflight_dropped", "Messages to a device that acknowledges none of those before.", b.InflightDropped)
	case *broker.Remote:
		count("broker_lost", "Connections to the broker that ended.", bs.Lost.Load)
		add(prometheus.GaugeValue, "broker_connections", "Connections to the broker.", func() float64 { up, _ := b.Up(); return float64(up) })
	}
	count("relay_handled", "Messages of devices that were handled.", rs.Handled.Load)
	count("relay_dropped", "Messages that did not open, or were not the sender's.", rs.Dropped.Load)
	count("relay_panics", "Messages over which a handler panicked.", rs.Panics.Load)
	count("relay_failed", "Messages the store had no answer for.", rs.Failed.Load)
	count("relay_tickets", "Tickets that were opened.", rs.Tickets.Load)
	count("relay_untold", "Answers that could not be published.", rs.Untold.Load)
	if ts := s.telemetry.Stats(); ts != nil {
		count("telemetry_forwarded", "Bodies of telemetry of devices that the receiver took.", ts.Forwarded.Load)
		count("telemetry_refused", "Bodies that were too large, malformed, or said to be of another device.",
			func() int64 { return ts.Large.Load() + ts.Malformed.Load() + ts.Foreign.Load() })
		count("telemetry_dropped", "Bodies that found no room, or that the receiver did not take.", func() int64 { return ts.Dropped.Load() + ts.Failed.Load() })
	}
	count("store_units", "Units of work that were committed.", func() int64 { return int64(st.Stats().Units) })
	count("store_commits", "Commits; units share them.", func() int64 { return int64(st.Stats().Commits) })
	for _, h := range s.hosts {
		desc := prometheus.NewDesc("coinop_acquirer_up", "Whether a link is signed on.", nil, prometheus.Labels{"link": h.name})
		out = append(out, gauge{desc, prometheus.GaugeValue, func() float64 {
			if h.link.State().Up {
				return 1
			}
			return 0
		}})
	}
	return out
}
