package vivopay

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"coinop/hardware"
)

// At USB a reader without a serial port speaks in HID reports (NEO 2 Interface Developer's Guide, "USB HID"):
// 64 bytes, of which the first is the report's id, and the rest a part of a frame, filled up with 00.
const (
	reportSize = 64
	partSize   = reportSize - 1

	reportSingle = 0x01
	reportFirst  = 0x02
	reportMiddle = 0x03
	reportLast   = 0x04
)

// Reports are a frame's reports, in order.
func Reports(frame []byte) (all [][]byte) {
	for at := 0; at < len(frame); at += partSize {
		r := make([]byte, reportSize)
		n := copy(r[1:], frame[at:])
		switch first, last := at == 0, at+n == len(frame); {
		case first && last:
			r[0] = reportSingle
		case first:
			r[0] = reportFirst
		case last:
			r[0] = reportLast
		default:
			r[0] = reportMiddle
		}
		all = append(all, r)
	}
	return all
}

// Part is what a report has of a frame, with what it was filled up with; false: it is no report of this
// protocol. Where a frame ends its own length says, and whether one is missing its CRC.
func Part(report []byte) ([]byte, bool) {
	if len(report) != reportSize || report[0] < reportSingle || report[0] > reportLast {
		return nil, false
	}
	return report[1:], true
}

// hidPort is a Port of bytes over one of reports.
type hidPort struct {
	hardware.Port
}

// Read gives the part of the next report. What is no report is dropped: no frame is in it.
func (p hidPort) Read(b []byte) (int, error) {
	if len(b) < reportSize {
		return 0, fmt.Errorf("read of %d bytes: a report has %d", len(b), reportSize)
	}
	for {
		n, err := p.Port.Read(b)
		if part, ok := Part(b[:max(n, 0)]); ok {
			copy(b, part)
			b[partSize] = 0
			return partSize, err
		}
		clear(b[:max(n, 0)])
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, net.ErrClosed
		}
	}
}

// Write takes a whole frame.
func (p hidPort) Write(frame []byte) (int, error) {
	done := 0
	for _, r := range Reports(frame) {
		if n, err := p.Port.Write(r); err != nil || n != reportSize {
			return done, errors.Join(err, fmt.Errorf("report of %d bytes, %d left", reportSize, n))
		}
		done = min(done+partSize, len(frame))
	}
	return done, nil
}

// OpenPort opens a reader of either kind, for whoever wants to ask it something; a serial one at 115,200 baud.
func OpenPort(path string) (hardware.Port, error) { return open(path, 115200) }

// SetReadDeadline is that of the reports.
func (p hidPort) SetReadDeadline(t time.Time) error {
	if d, ok := p.Port.(interface{ SetReadDeadline(time.Time) error }); ok {
		return d.SetReadDeadline(t)
	}
	return os.ErrNoDeadline
}

// open opens a reader by the kind of its node: hidraw, a socket that stands for one (it keeps reports
// apart as hidraw does, unix(7) SOCK_SEQPACKET), or else a serial line.
func open(path string, baud int) (hardware.Port, error) {
	at, err := filepath.EvalSymlinks(path)
	if err != nil {
		at = path
	}
	if strings.HasPrefix(filepath.Base(at), "hidraw") {
		p, err := openHID(path)
		return p, err
	}
	if s, err := os.Stat(path); err == nil && s.Mode()&fs.ModeSocket != 0 {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
		if err != nil {
			return nil, err
		}
		return hidPort{c}, nil
	}
	return hardware.OpenTTY(path, baud)
}

// openHID opens a hidraw node.
func openHID(path string) (hardware.Port, error) {
	f, err := hardware.OpenNode(path)
	if err != nil {
		return nil, err
	}
	if err := f.SetWriteDeadline(time.Time{}); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open %s: no HID device: %w", path, err)
	}
	return hidPort{f}, nil
}
