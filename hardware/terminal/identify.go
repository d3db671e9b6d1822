package terminal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

const identifyTime = 2 * time.Second

// Identify asks for a terminal's status (05 01, PA00P015 2.55) without registering: nothing is charged, and its
// settings stay. What it says is its words' gist. A terminal takes one connection; the agent must not have it.
func Identify(ctx context.Context, address string) (says string, err error) {
	d := net.Dialer{Timeout: identifyTime}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", Unreachable(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(identifyTime))
	if _, err := c.Write(apdu{statusEnquiry[0], statusEnquiry[1], []byte{0, 0, 0, 0x03, 0x02}}.bytes()); err != nil {
		return "", err
	}
	var in stream
	said := ""
	for buf := make([]byte, 1024); ; {
		n, err := c.Read(buf)
		if err != nil {
			if said == "" {
				return "", fmt.Errorf("it says nothing of ZVT: %w", err)
			}
			return said, nil
		}
		in.feed(buf[:n])
		for {
			a, ok, err := in.next()
			if err != nil {
				return "", errors.New("it says something else than ZVT")
			}
			if !ok {
				break
			}
			switch {
			case a.class == 0x80: // taken
				said = "ZVT terminal"
			case a.class == 0x84:
				return fmt.Sprintf("ZVT terminal, not ready: %02X", a.instr), nil
			case a.is(0x06, 0x0F):
				_, _ = c.Write(positive)
				if status, _, ok := readStatus(a.data); ok && status != 0 {
					return fmt.Sprintf("ZVT terminal, status %02X", status), nil
				}
				return "ZVT terminal, ready", nil
			case a.is(0x06, 0x1E):
				_, _ = c.Write(positive)
				return "ZVT terminal, it refuses to say how it is", nil
			default:
				_, _ = c.Write(positive)
			}
		}
	}
}
