package iso8583

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"coinop/cloud/acquirer"
)

// flight is one operation between Do and the connection.
type flight struct {
	op        acquirer.Op
	keys      []answerKey
	frame     []byte
	session   *session
	stage     atomic.Int32
	written   chan struct{} // closed when the frame was written or never will be
	answer    chan acquirer.Answer
	lateUntil time.Time // guarded by Link.mu
}

// Stages of a flight. Who moves it out of waiting owns it: the writer or the one who withdraws.
const (
	stageWaiting int32 = iota
	stageWriting
	stageSent      // at least one byte may have left
	stageWithdrawn // none has, none will
)

func newFlight(op acquirer.Op, c Contract, mti string) *flight {
	f := &flight{op: op, written: make(chan struct{}), answer: make(chan acquirer.Answer, 1)}
	for _, de7 := range op.SentDE7 {
		f.keys = append(f.keys, answerKey{mti, trim(op.Merchant.TID), stan(op.STAN), de7})
	}
	return f
}

func (f *flight) sent() bool { return f.stage.Load() == stageSent }

// withdraw keeps a frame that is still waiting from being written.
func (f *flight) withdraw() {
	if f.stage.CompareAndSwap(stageWaiting, stageWithdrawn) {
		close(f.written)
	}
}

// take is the writer's: false when the frame was withdrawn or is too late.
func (f *flight) take() bool {
	if !f.stage.CompareAndSwap(stageWaiting, stageWriting) {
		return false
	}
	if tooLate(f.op.WriteBy) {
		f.end(stageWithdrawn)
		return false
	}
	return true
}

func (f *flight) end(stage int32) {
	f.stage.Store(stage)
	close(f.written)
}

// session is one connection.
type session struct {
	link    *Link
	conn    net.Conn
	out     chan *flight
	network chan *Message // 08xx of ours to write
	replies chan *Message // 0810 to our 0800s
	heard   atomic.Int64  // when something was read last, ns of the clock
	gone    chan struct{} // closed when the connection is of no more use
}

// batchMost is how many bytes one write may have.
const batchMost = 16 << 10

// send writes what comes, several messages in one write when they are there.
func (s *session) send() error {
	var buf []byte
	var batch []*flight
	for {
		buf, batch = buf[:0], batch[:0]
		var err error
		select {
		case f := <-s.out:
			buf, batch = gather(buf, batch, f)
		case m := <-s.network:
			if buf, err = s.link.codec.AppendFrame(buf, m); err != nil {
				return err
			}
		case <-s.gone:
			return nil
		}
		for more := true; more && len(buf) < batchMost; {
			select {
			case f := <-s.out:
				buf, batch = gather(buf, batch, f)
			default:
				more = false
			}
		}
		if len(buf) == 0 {
			continue
		}
		if err := s.conn.SetWriteDeadline(time.Now().Add(s.link.cfg.WriteWithin)); err != nil {
			settle(batch, len(buf), 0)
			clear(buf)
			return err
		}
		n, err := s.conn.Write(buf)
		settle(batch, len(buf), n)
		clear(buf)
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
}

func gather(buf []byte, batch []*flight, f *flight) ([]byte, []*flight) {
	if !f.take() {
		return buf, batch
	}
	return append(buf, f.frame...), append(batch, f)
}

// settle ends each flight of a batch of size bytes of which n were written: those that begin
// behind n were not sent. What is not of the batch stands before it.
func settle(batch []*flight, size, n int) {
	at := size
	for _, f := range batch {
		at -= len(f.frame)
	}
	for _, f := range batch {
		stage := stageSent
		if at >= n {
			stage = stageWithdrawn
		}
		at += len(f.frame)
		f.end(stage)
	}
}

// drain ends what nobody will write any more.
func (s *session) drain() {
	for {
		select {
		case f := <-s.out:
			f.withdraw()
		default:
			return
		}
	}
}

func (s *session) read(r *bufio.Reader) error {
	buf := make([]byte, 0, 512)
	for {
		frame, err := s.link.codec.ReadFrame(r, buf)
		if err != nil {
			return fmt.Errorf("read: %w", ended(err))
		}
		m, err := s.link.codec.Unpack(frame)
		if err != nil {
			return fmt.Errorf("read: %w", err) // out of step, or no host of this dialect
		}
		s.heard.Store(time.Now().UnixNano())
		switch {
		case m.MTI == "0800":
			select {
			case s.network <- networkReply(m):
			case <-s.gone:
				return nil
			}
		case m.MTI == "0810":
			select {
			case s.replies <- m:
			default: // more answers than questions
			}
		case m.MTI[2]%2 == 1:
			s.link.deliver(m)
		default:
			s.link.cfg.Log.Warn("host sent a request", "message", m)
		}
	}
}

// Ends of a connection.
var (
	errSignOn = errors.New("host refused the sign-on")
	errMuted  = errors.New("host does not answer")
	errGone   = errors.New("connection lost")
)

// keep signs on, puts the link into service, and echoes when nothing comes.
func (s *session) keep(ctx context.Context) (served bool, cause error) {
	code, err := s.ask(ctx, signOn)
	switch {
	case err != nil:
		return false, fmt.Errorf("sign-on: %w", err)
	case code != "00":
		return false, errSignOn
	}
	s.link.set(State{Up: true}, s)
	defer s.link.leave(s)
	missed := 0
	every := s.link.cfg.EchoEvery
	idle := time.NewTimer(every)
	defer idle.Stop()
	for {
		select {
		case <-idle.C:
			quiet := time.Since(time.Unix(0, s.heard.Load())) // the answer to the sign-on was the first
			if quiet >= 0 && quiet < every {
				missed = 0
				idle.Reset(every - quiet)
				continue
			}
			_, err := s.ask(ctx, echo)
			switch {
			case err == nil:
				missed = 0
			case errors.Is(err, errMuted):
				if missed++; missed >= missedEchoes {
					return true, err
				}
			}
			idle.Reset(every)
		case <-s.gone:
			return true, errGone
		case <-ctx.Done():
			s.bye()
			return true, context.Cause(ctx)
		}
	}
}

// ask sends an 0800 and waits for its 0810.
func (s *session) ask(ctx context.Context, code string) (de39 string, err error) {
	m := s.link.cfg.Contract.network(code, s.link.ownSTAN(), stamp(time.Now()))
	wait := time.NewTimer(s.link.cfg.AnswerIn)
	defer wait.Stop()
	select {
	case s.network <- m:
	case <-s.gone:
		return "", errGone
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	for {
		select {
		case r := <-s.replies:
			if r.Get(11) == m.Get(11) && r.Get(7) == m.Get(7) {
				return r.Get(39), nil
			}
		case <-wait.C:
			return "", errMuted
		case <-s.gone:
			return "", errGone
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// bye signs off as well as it can: the answer is waited for a short while.
func (s *session) bye() {
	s.link.leave(s)
	ctx, cancel := context.WithTimeout(context.Background(), min(time.Second, s.link.cfg.AnswerIn))
	defer cancel()
	_, _ = s.ask(ctx, signOff) // the connection ends either way
}
