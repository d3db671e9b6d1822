package sim

import (
	"context"
	"errors"
	"strings"
	"time"

	"coinop/agent"
	"coinop/agent/uplink"
	"coinop/cloud/relay"
	"coinop/protocol"
)

type ctx = context.Context

// conn is one MQTT connection of a machine. What is under way when it is cut is gone, and the
// broker keeps nothing.
type conn struct {
	m    *machine
	gen  int // of the machine's process
	live bool
}

// Spans of the model broker.
const (
	latencyMin = 15 * time.Millisecond
	latencyMax = 250 * time.Millisecond
)

// up carries a published message to a replica: usually once, soon and whole. "Accepted" is all the
// broker ever said.
func (w *World) up(c *conn, t protocol.Topic, p []byte) {
	m := c.m
	if !c.live {
		return
	}
	times := 1
	delay := span(m.net, latencyMin, latencyMax)
	switch {
	case m.lose > 0: // after its PUBACK
		m.lose--
		w.trace(m.name, "a message up is lost: %s", leaf(t))
		return
	case m.twice > 0:
		m.twice--
		times = 2
		w.counts.Repeats++
	case m.slow > 0:
		m.slow--
		delay += span(m.net, time.Second, 12*time.Second)
	}
	for range times {
		w.after(delay, func() {
			if !c.live && m.net.IntN(2) == 0 {
				return // it was on its way when the connection broke
			}
			r := w.replica()
			if r == nil {
				return
			}
			r.take(relay.Message{Device: m.id, Topic: t, Payload: p})
		})
		delay += span(m.net, time.Millisecond, 4*time.Second)
	}
}

func leaf(t protocol.Topic) string {
	_, l, _ := strings.Cut(strings.TrimPrefix(string(t), "coinop/v1/"), "/")
	return l
}

// down carries a message to whoever subscribed it: nobody, or the machine's connection.
func (w *World) down(t protocol.Topic, p []byte) error {
	id, _, err := protocol.ParseTopic(t)
	if err != nil {
		return err
	}
	w.scan("a message down", p)
	for _, m := range w.machines {
		if m.id != id {
			continue
		}
		c := m.conn
		if c == nil || !c.live {
			return nil
		}
		if m.deaf > 0 {
			m.deaf--
			w.trace(m.name, "a message down is lost: %s", leaf(t))
			return nil
		}
		delay := span(m.net, latencyMin, latencyMax)
		if m.slowDown > 0 {
			m.slowDown--
			delay += span(m.net, time.Second, 12*time.Second)
		}
		w.after(delay, func() {
			if c.live && c.gen == m.gen && m.on {
				m.handle(agent.Uplink{Event: uplink.Inbound{Topic: t, Payload: p}})
			}
		})
		return nil
	}
	return errors.New("no such device")
}

// connectSoon keeps a machine connected as its shell does: at once, then with backoff.
func (m *machine) connectSoon(wait time.Duration) {
	gen := m.gen
	m.w.after(wait, func() {
		if m.gen != gen || !m.on || m.conn != nil {
			return
		}
		if m.linkCut || m.w.replica() == nil {
			m.connectSoon(min(2*wait+time.Second, 30*time.Second))
			return
		}
		connected, hello, _, err := m.dev.Dial(m.reading())
		if err != nil {
			m.crashed(err)
			return
		}
		c := &conn{m: m, gen: gen, live: true}
		m.conn = c
		m.w.trace(m.name, "connects")
		m.w.after(span(m.net, latencyMin, latencyMax), func() {
			if !c.live || m.gen != gen || !m.on {
				return
			}
			m.w.up(c, protocol.TopicOf(m.id, protocol.UpConn), hello)
			m.handle(agent.Uplink{Event: connected})
		})
	})
}

// disconnect cuts a machine's connection; the machine notices it after a while.
func (m *machine) disconnect(notice time.Duration) {
	c := m.conn
	if c == nil {
		return
	}
	c.live = false
	gen := m.gen
	m.w.after(notice, func() {
		if m.conn != c {
			return
		}
		m.conn = nil
		if m.gen == gen && m.on {
			m.handle(agent.Uplink{Event: uplink.Disconnected{}})
			m.connectSoon(span(m.net, 200*time.Millisecond, 2*time.Second))
		}
	})
}
