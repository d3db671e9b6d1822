package protocol

import "time"

// UnixMS is wall or cloud time in milliseconds since 1970 UTC. Wall time on a device can jump:
// never subtract two of a device's own readings, use Mono within one Boot.
type UnixMS int64

// Time is t as a time.Time in UTC.
func (t UnixMS) Time() time.Time { return time.UnixMilli(int64(t)).UTC() }

// Add is t moved by d, in whole milliseconds.
func (t UnixMS) Add(d time.Duration) UnixMS { return t + UnixMS(d.Milliseconds()) }

// Sub is the span from u to t.
func (t UnixMS) Sub(u UnixMS) time.Duration { return time.Duration(t-u) * time.Millisecond }

// At is a time.Time as UnixMS.
func At(t time.Time) UnixMS { return UnixMS(t.UnixMilli()) }

// Reading is what pure code takes as time. Spans are measured by Mono within one Boot; the age of
// something across boots is an interval between cloud time anchors.
type Reading struct {
	Wall        UnixMS        // the device's clock; may be wrong by Uncertainty and may jump
	Uncertainty time.Duration // how far Wall may be from cloud time; 0 = unknown
	Boot        BootID        // this run of the agent
	Mono        time.Duration // since the agent started; never jumps
	Anchor      AnchorID      // newest anchor of cloud time received in this boot; zero = none
	SinceAnchor time.Duration // Mono since that anchor was received
}

// Anchor is cloud time for a nonce the device asked with: proof of when, not earlier than which.
type Anchor struct {
	ID    AnchorID `cbor:"1,keyasint"`
	Cloud UnixMS   `cbor:"2,keyasint"`
	Nonce Nonce    `cbor:"3,keyasint"`
}
