package gpio

import "time"

// Contact takes the bounce out of a switch: a level counts when it stayed the same for Hold. It is pure, its
// time is given.
type Contact struct {
	Hold        time.Duration
	seen, known bool // a level; one that stayed
	raw, is     bool
	since       time.Duration // raw is what it is
	unrest      time.Duration // since when no level stayed
}

// Level is what was read at now.
func (c *Contact) Level(now time.Duration, level bool) {
	if c.seen && c.raw == level {
		return
	}
	if !c.seen || now-c.since >= c.Hold {
		c.unrest = now
	}
	c.seen, c.raw, c.since = true, level, now
}

// Due is whether a level has stayed that was not known before: the first, and every change.
func (c *Contact) Due(now time.Duration) bool {
	if !c.seen || c.known && c.raw == c.is || now-c.since < c.Hold {
		return false
	}
	c.known, c.is = true, c.raw
	return true
}

// Is is the level that stayed last.
func (c *Contact) Is() bool { return c.is }

// Settles is when the level will have stayed, or has.
func (c *Contact) Settles() time.Duration { return c.since + c.Hold }

// Restless is for how long no level has stayed.
func (c *Contact) Restless(now time.Duration) time.Duration {
	if !c.seen || now-c.since >= c.Hold {
		return 0
	}
	return now - c.unrest
}
