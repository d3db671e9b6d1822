package hardware

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// script is a machine that writes down what comes, and does what the test wants.
type script struct {
	got  []string
	does func(in any) Output
}

func (s *script) step(_ time.Duration, in any) Output {
	switch in := in.(type) {
	case Bytes:
		s.got = append(s.got, "bytes "+string(in.B))
	case Wrote:
		s.got = append(s.got, fmt.Sprintf("wrote %d %v", in.N, in.Err != nil))
	default:
		s.got = append(s.got, strings.TrimPrefix(fmt.Sprintf("%T", in), "hardware."))
	}
	if s.does == nil {
		return Output{}
	}
	return s.does(in)
}

func (s *script) want(t *testing.T, want string) {
	t.Helper()
	if got := strings.Join(s.got, ", "); got != want {
		t.Errorf("got %s; want %s", got, want)
	}
}

// bench is a Serve on one end of a pipe, which takes a Write only when the other end reads.
func bench(t *testing.T, s *script, f func(far net.Conn, box *Mailbox, cancel func(), done <-chan error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer func() { _ = far.Close() }()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var box Mailbox
		done := make(chan error, 1)
		go func() {
			done <- Serve(ctx, near, Since(), s.step, &box, func(e Event) { s.got = append(s.got, fmt.Sprintf("event %v", e)) })
		}()
		synctest.Wait()
		f(far, &box, cancel, done)
	})
}

func TestServe(t *testing.T) {
	t.Parallel()
	t.Run("a device that takes nothing", func(t *testing.T) {
		t.Parallel()
		s := &script{}
		s.does = func(in any) (o Output) {
			switch in.(type) {
			case string:
				o.Write([]byte("hello"))
				o.Write([]byte("again"))
				o.Emit(VendCancel{})
			case Closed:
				o.Write([]byte("too late"))
			}
			return o
		}
		bench(t, s, func(_ net.Conn, box *Mailbox, _ func(), done <-chan error) {
			start := time.Now()
			_, _ = box.Post("go"), box.Post(1)
			if err := <-done; err == nil || !strings.Contains(err.Error(), "write") {
				t.Error(err)
			}
			if time.Since(start) != writeTime {
				t.Errorf("after %v", time.Since(start))
			}
			s.want(t, "Opened, string, wrote 0 true, event {}, Closed, int")
		})
	})
	t.Run("half a write", func(t *testing.T) {
		t.Parallel()
		s := &script{}
		s.does = func(in any) (o Output) {
			if _, ok := in.(Opened); ok {
				o.Write([]byte("hello"))
			}
			return o
		}
		bench(t, s, func(far net.Conn, _ *Mailbox, _ func(), done <-chan error) {
			_, _ = io.ReadFull(far, make([]byte, 2))
			_ = far.Close()
			<-done
			s.want(t, "Opened, wrote 2 true, Closed")
		})
	})
	t.Run("ctx ends while a write waits", func(t *testing.T) {
		t.Parallel()
		s := &script{}
		s.does = func(in any) (o Output) {
			if _, ok := in.(Opened); ok {
				o.Write([]byte("hello"))
				o.Emit(VendCancel{})
			}
			return o
		}
		bench(t, s, func(_ net.Conn, _ *Mailbox, cancel func(), done <-chan error) {
			start := time.Now()
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) || time.Since(start) != 0 {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			s.want(t, "Opened, wrote 0 true") // and no event
		})
	})
	t.Run("time, bytes, an end of its own", func(t *testing.T) {
		t.Parallel()
		s := &script{}
		enough := errors.New("enough")
		s.does = func(in any) Output {
			switch in.(type) {
			case Opened:
				return Output{Wake: 3 * time.Second}
			case Wake:
				return Output{End: enough}
			}
			return Output{Wake: 5 * time.Second}
		}
		bench(t, s, func(far net.Conn, _ *Mailbox, _ func(), done <-chan error) {
			start := time.Now()
			_, _ = far.Write([]byte("x"))
			if err := <-done; !errors.Is(err, enough) || time.Since(start) != 5*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			s.want(t, "Opened, bytes x, Wake, Closed")
		})
	})
	t.Run("a panic ends all it started", func(t *testing.T) {
		t.Parallel()
		s := &script{does: func(in any) Output {
			if _, ok := in.(Bytes); ok {
				panic("card 4761739001010119")
			}
			return Output{}
		}}
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			var box Mailbox
			go func() { _, _ = far.Write([]byte("x")) }()
			_, err := serve(t.Context(), func(context.Context) (Driver, error) {
				return driver(func(ctx context.Context) error {
					return Serve(ctx, near, Since(), s.step, &box, func(Event) {})
				}), nil
			})
			if err == nil || strings.Contains(err.Error(), "4761") || !strings.Contains(err.Error(), "serve_test.go") {
				t.Error(err)
			}
			if _, err := far.Write([]byte("x")); err == nil {
				t.Error("the port is still open")
			}
			if err := box.Post(1); !errors.Is(err, ErrPortGone) {
				t.Errorf("a command was taken by nobody: %v", err)
			}
		})
	})
}
