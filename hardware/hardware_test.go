package hardware

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coinop/protocol/card"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type driver func(context.Context) error

func (d driver) Run(ctx context.Context) error { return d(ctx) }

func TestSupervise(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		var got []string
		var at []time.Duration
		start := time.Now()
		n := 0
		open := func(context.Context) (Driver, error) {
			n++
			at = append(at, time.Since(start))
			switch n {
			case 1, 2:
				return nil, errors.New("no such device")
			case 3:
				panic("open")
			case 4:
				return driver(func(context.Context) error { time.Sleep(time.Minute); return io.ErrUnexpectedEOF }), nil
			case 5:
				return driver(func(context.Context) error { var none []int; _ = none[len(none)]; return nil }), nil
			case 6:
				return driver(func(context.Context) error { return errors.New("card 4761739001010119 read") }), nil
			default:
				return driver(func(ctx context.Context) error { <-ctx.Done(); time.Sleep(time.Second); return ctx.Err() }), nil
			}
		}
		why := errors.New("enough")
		done := make(chan error)
		go func() {
			done <- Supervise(ctx, "vmc", open, func(e Event) {
				switch e := e.(type) {
				case Health:
					got = append(got, e.Code+": "+e.Detail)
				case PortGone:
					got = append(got, "gone "+e.Device)
				}
			})
		}()
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		before := time.Now()
		cancel(why)
		if err := <-done; !errors.Is(err, why) {
			t.Errorf("ended %v", err)
		}
		if time.Since(before) != time.Second {
			t.Error("it did not wait for Run")
		}
		text := strings.Join(got, "\n")
		for _, want := range []string{
			"port_absent: no such device\ndriver_panic: panic at hardware/hardware_test.go:", "\ngone vmc\nport_lost: unexpected EOF",
			"\ngone vmc\ndriver_panic: runtime error: index out of range [0] with length 0", "\ngone vmc\nport_lost: card ************0119 read",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in\n%s", want, text)
			}
		}
		if strings.Count(text, "no such device") != 1 {
			t.Errorf("told more than once:\n%s", text)
		}
		pauses := []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, time.Minute + 500*time.Millisecond, time.Second}
		for i, p := range pauses {
			if d := at[i+1] - at[i]; i != 3 && (d > p || d < p*3/4) {
				t.Errorf("pause %d is %v, want a little under %v", i+1, d, p)
			}
		}
		if d := at[4] - at[3]; d > pauses[3] || d < time.Minute {
			t.Errorf("after a calm opening the pause is %v", d-time.Minute)
		}
	})
}

func TestMailbox(t *testing.T) {
	t.Parallel()
	var b Mailbox
	if err := b.Post(1); !errors.Is(err, ErrPortGone) {
		t.Error(err)
	}
	if err := b.Keep("kept"); err != nil {
		t.Error(err)
	}
	ring := b.open()
	<-ring
	if q := b.take(); len(q) != 1 || q[0] != "kept" {
		t.Errorf("%v", q)
	}
	var err error
	n := 0
	for ; err == nil; n++ {
		err = b.Post(n)
	}
	if !errors.Is(err, ErrBusy) || n != mailboxSize+1 {
		t.Errorf("%v after %d", err, n)
	}
	if q := b.shut(); len(q) != mailboxSize {
		t.Errorf("%d left", len(q))
	}
}

func TestNothingPrintsACard(t *testing.T) {
	t.Parallel()
	tr, err := card.ParseTrack2("4761739001010119=30122011234567890")
	if err != nil {
		t.Fatal(err)
	}
	c := Card{Track2: tr, PAN: tr.PAN(), ICC: Hide([]byte(tr.Reveal()))}
	e := CardRead{Card: c}
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(&text, nil))
	for _, v := range []any{c, &c, e, &e, c.ICC, []Card{c}, map[string]Hidden{"icc": c.ICC}, struct{ c Card }{c}, struct{ h Hidden }{c.ICC}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%c", "%U"} {
			fmt.Fprintf(&text, verb+"\n", v)
		}
		js, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		text.Write(js)
		log.Info("read", "v", v)
	}
	for _, secret := range []string{"476173", "4761739001010119", "3012201", "34373631", "52 55 54 49", "34 37 36 31"} {
		if strings.Contains(text.String(), secret) {
			t.Errorf("%q is shown", secret)
		}
	}
	if got := fmt.Sprint(c); got != "visa ************0119 (unknown)" {
		t.Errorf("prints as %q", got)
	}
}

func TestOpenTTY(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		baud int
		want string
	}{{file + "none", 9600, "no such file"}, {file, 9600, "not a serial line"}, {file, 9601, "no such speed"}} {
		if _, err := OpenTTY(c.path, c.baud); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s at %d: %v", c.path, c.baud, err)
		}
	}
}
