package brokertest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"sync"
	"time"
)

// Client is the cloud's end at a broker that does not run inside it.
type Client struct {
	c  *client
	mu sync.Mutex // of writing
}

// Connect connects as name and subscribes filter.
func Connect(addr string, cfg *tls.Config, name, filter string) (*Client, error) {
	raw, err := tls.Dial("tcp", addr, cfg)
	if err != nil {
		return nil, err
	}
	c := &client{id: name, c: raw, r: bufio.NewReader(raw)}
	_ = raw.SetDeadline(time.Now().Add(answerTime))
	for _, p := range [][]byte{helloOf(name).bytes(), numbered(0x82, 1, text(filter)+"\x01")} {
		if _, err := raw.Write(p); err != nil {
			return nil, err
		}
		got, err := c.read()
		if err != nil || len(got.body) == 0 || got.body[len(got.body)-1] > 1 {
			return nil, fmt.Errorf("%s: answered %x %x: %w", name, got.head, got.body, err)
		}
	}
	return &Client{c: c}, raw.SetDeadline(time.Time{})
}

// Listen hands on and acknowledges what comes, until the connection ends.
func (c *Client) Listen(heard func(Message)) {
	for {
		p, err := c.c.read()
		if err != nil {
			return
		}
		if p.kind() != publishType {
			continue
		}
		m, err := p.message()
		if err != nil {
			return
		}
		heard(Message{Topic: m.topic, Payload: m.payload})
		if m.id != 0 && c.write(numbered(0x40, m.id, "")) != nil {
			return
		}
	}
}

// Publish sends with QoS 1 and does not wait.
func (c *Client) Publish(topic string, id uint16, payload []byte) error {
	return c.write(publish(0x32, topic, id, string(payload)))
}

func (c *Client) write(p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.c.c.Write(p)
	return err
}

// Cut ends the connection without a word.
func (c *Client) Cut() { c.c.cut() }
