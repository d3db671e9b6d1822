package brokertest

import (
	"fmt"
	"testing"
	"time"
)

// Spans of Keepalive: MQTT 3.1.1, section 3.1.2.10, gives a client one and a half of what it said.
const (
	saidAlive    = 10 * time.Second // the shortest our devices may say
	pingEvery    = 4 * time.Second
	expiryLatest = saidAlive*3/2 + 5*time.Second
)

// Keepalive waits, for 15 s and more, until a device that says nothing is closed and its will told.
// One that pings lives on. Run it beside other tests.
func Keepalive(t *testing.T, start func(t *testing.T) Broker) {
	s := &suite{Broker: start(t), seen: make(chan Message, 100), last: make(chan struct{})}
	s.heard.Go(s.cloud)
	defer s.heard.Wait()
	defer close(s.last)
	short := func(h *hello) { h.keepalive = uint16(saidAlive / time.Second) }
	pinging := s.device(t, "m1", short, withWill("forged: it pinged"))
	silent := s.device(t, "m2", short, withWill("expired"))
	began := time.Now()
	ended := make(chan error, 1)
	go func() {
		_ = silent.c.SetReadDeadline(began.Add(expiryLatest))
		_, err := silent.read()
		if !gone(err) {
			err = fmt.Errorf("still connected after %s", time.Since(began))
		} else {
			err = nil
		}
		ended <- err
	}()
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			pinging.ping()
			continue
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
		}
		break
	}
	took := time.Since(began)
	t.Logf("closed after %s", took)
	if took < saidAlive {
		t.Errorf("closed before the %s it had said", saidAlive)
	}
	if got := s.hears(t, up("m2", "conn")); got != "expired" {
		t.Errorf("will: %q", got)
	}
	for time.Since(began) < expiryLatest { // as long as any that says nothing
		time.Sleep(pingEvery / 4)
		pinging.ping()
	}
	if len(s.forged) > 0 {
		t.Errorf("the cloud heard %q", s.forged)
	}
	if err := s.Alive(); err != nil {
		t.Error(err)
	}
}
