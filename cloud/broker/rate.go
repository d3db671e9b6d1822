package broker

import (
	"maps"
	"sync"
	"time"

	"coinop/protocol"
)

// Rate is the share of one connection. A connection that sends more is slowed, never closed: a
// machine that comes back after a week has a week's journal to tell, and closing it would only make
// it start again.
type Rate struct {
	Messages      int // packets a second, PUBACKs not counted; 0 = 200
	MessagesBurst int // 0 = 400
	Bytes         int // a second; 0 = 1 MiB
	BytesBurst    int // 0 = 4 MiB, and never less than one message
}

// overhead is what a packet costs beyond its bytes: a PUBACK of 4 bytes is not a 4 byte's work.
const overhead = 252

func (r Rate) filled() Rate {
	for _, f := range []struct {
		p *int
		n int
	}{{&r.Messages, 200}, {&r.MessagesBurst, 400}, {&r.Bytes, 1 << 20}, {&r.BytesBurst, 4 << 20}} {
		if *f.p == 0 {
			*f.p = f.n
		}
	}
	r.BytesBurst = max(r.BytesBurst, maxPublish+maxHeader+overhead)
	return r
}

// bucket is a token bucket kept as the moment at which it would be full again.
type bucket struct {
	full   time.Time
	token  time.Duration // time to earn one
	window time.Duration // time to earn all of them
}

func newBucket(perSecond, burst int) bucket {
	token := time.Second / time.Duration(perSecond)
	return bucket{token: token, window: time.Duration(burst) * token}
}

// take spends n tokens and says how long their owner has to wait for them.
func (b *bucket) take(now time.Time, n int) time.Duration {
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(time.Duration(n) * b.token)
	return max(0, b.full.Sub(now)-b.window)
}

// try spends n tokens if there are so many, and none otherwise.
func (b *bucket) try(now time.Time, n int) bool {
	before := b.full
	if b.take(now, n) > 0 {
		b.full = before
		return false
	}
	return true
}

// shares are those of many devices, for a broker that slows nobody down by itself: what is more is
// dropped, and its sender says it again.
type shares struct {
	rate Rate
	mu   sync.Mutex
	of   map[protocol.DeviceID]*share
}

type share struct{ messages, bytes bucket }

// keptShares is how many devices are remembered before those that have been quiet are forgotten.
const keptShares = 4096

func newShares(r Rate) *shares {
	return &shares{rate: r.filled(), of: map[protocol.DeviceID]*share{}}
}

// take reports whether a message of so many bytes is within its sender's share.
func (s *shares) take(now time.Time, d protocol.DeviceID, size int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.of[d]
	if have == nil {
		if len(s.of) >= keptShares && len(s.of)%keptShares == 0 {
			maps.DeleteFunc(s.of, func(_ protocol.DeviceID, h *share) bool {
				return h.messages.full.Before(now) && h.bytes.full.Before(now)
			})
		}
		have = &share{newBucket(s.rate.Messages, s.rate.MessagesBurst), newBucket(s.rate.Bytes, s.rate.BytesBurst)}
		s.of[d] = have
	}
	return have.messages.try(now, 1) && have.bytes.try(now, size+overhead)
}
