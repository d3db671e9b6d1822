package pcsc

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Names are the readers that the service at socket knows, "" being where it usually listens. No reader is
// connected to, and no card powered.
func Names(ctx context.Context, socket string) (names []string, err error) {
	d := net.Dialer{Timeout: answerTime}
	c, err := d.DialContext(ctx, "unix", cmp.Or(socket, Socket))
	if err != nil {
		return nil, fmt.Errorf("is pcscd installed and running? %w", err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(answerTime))
	answer := make([]byte, 12) // major, minor, result
	if err := exchange(c, request(cmdVersion, numbers(major, minor, 0)), answer); err != nil {
		return nil, err
	}
	if r := binary.LittleEndian.Uint32(answer[8:]); r != resultOK {
		return nil, resultError("version", r)
	}
	states := make([]byte, statesSize)
	if err := exchange(c, request(cmdStates, nil), states); err != nil {
		return nil, err
	}
	slots, err := ParseSlots(states)
	for _, s := range slots {
		names = append(names, s.Name)
	}
	return names, err
}

func exchange(c net.Conn, ask, answer []byte) error {
	_, err := c.Write(ask)
	if err == nil {
		_, err = io.ReadFull(c, answer)
	}
	if err != nil {
		return fmt.Errorf("pcscd: %w", errors.Join(errBody, err))
	}
	return nil
}
