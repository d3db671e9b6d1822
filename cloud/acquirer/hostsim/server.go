package hostsim

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Config of a Server. The zero value of each field is a sane default.
type Config struct {
	Bank   *Bank  // nil: NewBank(Options{})
	Listen string // address; 127.0.0.1:0
	Books  string // file the books are appended and synced to before an answer leaves; none

	NoSignOn bool // serve before 0800/001; a host answers 91 until then
	Mute     bool // do not answer 0800 of any kind: a host that hangs
}

// Server is a Bank on a TCP socket: a length of 2 bytes big-endian before each message.
type Server struct {
	cfg      Config
	listener net.Listener
	file     *os.File

	mu    sync.Mutex // guards what follows
	bank  *Bank
	conns map[*hostConn]bool
	stan  int
	mute  bool
	fail  error // the books could not be written: the server stops
}

type hostConn struct {
	net.Conn
	write  sync.Mutex // guards out
	out    []byte     // answers that leave together
	signed bool
}

// Open listens and reads the books; Run serves.
func Open(cfg Config) (*Server, error) {
	if cfg.Bank == nil {
		cfg.Bank = NewBank(Options{})
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	s := &Server{cfg: cfg, bank: cfg.Bank, conns: map[*hostConn]bool{}, mute: cfg.Mute}
	if cfg.Books != "" {
		f, err := os.OpenFile(cfg.Books, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open books: %w", err)
		}
		if err := load(f, s.bank); err != nil {
			return nil, errors.Join(fmt.Errorf("read books %s: %w", cfg.Books, err), f.Close())
		}
		s.file = f
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		if s.file != nil {
			err = errors.Join(err, s.file.Close())
		}
		return nil, fmt.Errorf("host simulator: %w", err)
	}
	s.listener = l
	return s, nil
}

// load applies every whole line; half a line at the end was never answered and is cut off.
func load(f *os.File, b *Bank) error {
	r := bufio.NewReader(f)
	var whole int64
	for {
		text, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return f.Truncate(whole)
		}
		if err != nil {
			return err
		}
		var l Line
		if err := json.Unmarshal(text, &l); err != nil {
			return err
		}
		if err := b.Load(l); err != nil {
			return err
		}
		whole += int64(len(text))
	}
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Books is a copy of the bank's books.
func (s *Server) Books() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bank.Books()
}

// Mute makes the server ignore network messages (sign-on, echo), or answer them again.
func (s *Server) Mute(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute = on
}

// DropAll closes every connection.
func (s *Server) DropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

// Echo sends an 0800/301 of our own on every connection, as hosts do.
func (s *Server) Echo(now time.Time) {
	s.mu.Lock()
	s.stan++
	m := message{mti: "0800", f: &fields{7: now.UTC().Format("0102150405"), 11: fmt.Sprintf("%06d", s.stan), 70: "301"}}
	frame := s.bank.dialect.write(m)
	conns := make([]*hostConn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.send(frame)
	}
}

// Run serves until ctx ends, then closes everything and waits for it. It returns nil then, and an
// error when the listener or the books fail.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = s.listener.Close() })
	defer stop()
	var all sync.WaitGroup
	var err error
	for {
		var c net.Conn
		if c, err = s.listener.Accept(); err != nil {
			break
		}
		all.Go(func() { s.serve(ctx, cancel, &hostConn{Conn: c, signed: s.cfg.NoSignOn}, &all) })
	}
	if ctx.Err() != nil {
		err = nil
	}
	cancel()
	s.DropAll()
	all.Wait()
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.fail, err)
}

func (s *Server) serve(ctx context.Context, cancel func(), c *hostConn, all *sync.WaitGroup) {
	s.mu.Lock()
	s.conns[c] = true
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer func() {
		stop()
		_ = c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	r := bufio.NewReaderSize(c, 16<<10)
	for {
		if !whole(r) { // what came together is answered together
			c.flush()
		}
		frame, err := readFrame(r)
		if err != nil {
			return
		}
		replies, err := s.handle(c, frame)
		if err != nil {
			cancel()
			return
		}
		for _, reply := range replies {
			if reply.After == 0 {
				c.queue(reply.Frame)
				if reply.Drop {
					c.flush()
					_ = c.Close()
				}
				continue
			}
			all.Go(func() {
				wait := time.NewTimer(reply.After)
				defer wait.Stop()
				select {
				case <-wait.C:
					c.reply(reply)
				case <-ctx.Done():
				}
			})
		}
	}
}

// handle is the bank's, one message at a time, with the books on disk before the answer leaves.
func (s *Server) handle(c *hostConn, frame []byte) ([]Reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(frame) > 2 && frame[1] == '8' {
		if s.mute {
			return nil, nil
		}
		if m, err := s.bank.dialect.parse(frame); err == nil && m.mti == "0800" {
			c.signed = c.signed && m.f[70] != "002" || m.f[70] == "001"
		}
	} else if !c.signed {
		if refusal := s.bank.Refuse(frame); refusal != nil {
			return []Reply{{Frame: refusal}}, nil
		}
	}
	replies := s.bank.Handle(time.Now(), frame)
	lines := s.bank.Take()
	if s.file == nil || len(lines) == 0 {
		return replies, nil
	}
	var text []byte
	for _, l := range lines {
		b, err := json.Marshal(l)
		if err != nil {
			panic("hostsim: " + err.Error())
		}
		text = append(append(text, b...), '\n')
	}
	_, err := s.file.Write(text)
	if err = errors.Join(err, s.file.Sync()); err != nil {
		s.fail = fmt.Errorf("write books: %w", err)
		return nil, s.fail
	}
	return replies, nil
}

func (c *hostConn) reply(r Reply) {
	if r.Frame != nil {
		c.send(r.Frame)
	}
	if r.Drop {
		_ = c.Close()
	}
}

func (c *hostConn) send(frame []byte) {
	c.queue(frame)
	c.flush()
}

func (c *hostConn) queue(frame []byte) {
	if frame == nil {
		return
	}
	c.write.Lock()
	defer c.write.Unlock()
	c.out = append(binary.BigEndian.AppendUint16(c.out, uint16(len(frame))), frame...)
}

func (c *hostConn) flush() {
	c.write.Lock()
	defer c.write.Unlock()
	if len(c.out) == 0 {
		return
	}
	_ = c.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write(c.out); err != nil {
		_ = c.Close() // the reader sees it
	}
	c.out = c.out[:0]
}

// whole reports that the next frame is here already.
func whole(r *bufio.Reader) bool {
	head, err := r.Peek(min(2, r.Buffered()))
	return err == nil && len(head) == 2 && r.Buffered() >= 2+int(binary.BigEndian.Uint16(head))
}

func readFrame(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint16(head[:]))
	_, err := io.ReadFull(r, frame)
	return frame, err
}
