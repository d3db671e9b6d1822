package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"coinop/cloud"
	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/identity"
	"coinop/protocol"
	"coinop/protocol/money"
	"coinop/protocol/seal"
	"coinop/sim/load"
)

// The chain: lean devices and a bank in this process, the cloud in one of its own, all on the same CPUs.
const (
	manyDevices = 512
	manyAtATime = 256 // in flight when it is saturated
)

// Limits of the chain. The first are measured elsewhere, on two weak cores.
const (
	roundTrip    = 330 * time.Microsecond // MQTT, one in flight, a client like an agent's: p50
	unitsOfAnAsk = 2                      // sent, answered
	unitsOfASale = 6                      // of 3 rows each: 7 records, the head, and what a capture and its answer change
	limitOfOne   = "MQTT round trip 0.33 ms + 2 synced writes of this run"
	// Elsewhere a bare chain of the same parts, without what makes them safe, measured 6,500/s, 175 to 225 µs
	// saturated and 210 to 340 paced.
	targetRate, targetBusy, targetPaced = 5000.0, 220.0, 350.0
	bareRate, bareBusy, barePaced       = 6500.0, 200.0, 275.0
)

// chain is the bench of the chain.
type chain struct {
	r    *Report
	o    Options
	ours *end
	bare *end
	unit time.Duration // one unit of the bare engine
}

// end is a cloud, or what stands for one, and its devices.
type end struct {
	far   *process
	fleet *load.Fleet
}

// open starts one, and connects its devices.
func (c *chain) open(ctx context.Context, kind, dir, bank string) (*end, error) {
	far, err := startFar(ctx, c.o.Self, kind, dir, bank)
	if err != nil {
		return nil, err
	}
	e := &end{far: far}
	e.fleet, err = load.Open(ctx, load.Options{Addr: far.addr, Place: cloud.Place{Dir: dir}, Devices: min(manyDevices, 2*c.o.Devices)})
	if err == nil {
		if p := e.fleet.Connect(ctx, 64); p.Failed() > 0 {
			err = fmt.Errorf("devices that do not connect: %v", p.Errors)
		} else {
			err = e.fleet.Ready(ctx) // the link to the bank signs on meanwhile
		}
	}
	if err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

func (e *end) close() error {
	if e.fleet != nil {
		e.fleet.Close()
	}
	return e.far.stop()
}

// authorizations asks through the whole chain: with one in flight, saturated, and at half of that.
func (r *Report) authorizations(ctx context.Context, o Options, dir string, raw, unit time.Duration) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	host, err := hostsim.Open(hostsim.Config{NoSignOn: true})
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = host.Run(ctx) })
	c := &chain{r: r, o: o, unit: unit}
	for _, one := range []struct {
		end  **end
		kind string
	}{{&c.ours, "cloud"}, {&c.bare, "bare"}} {
		home := filepath.Join(dir, one.kind)
		if err := os.Mkdir(home, 0o700); err != nil {
			return err
		}
		if *one.end, err = c.open(ctx, one.kind, home, host.Addr()); err != nil {
			return fmt.Errorf("%s: %w", one.kind, err)
		}
		defer func() { err = errors.Join(err, (*one.end).close()) }()
	}
	return errors.Join(c.one(ctx, raw), c.many(ctx), c.custody(ctx))
}

// drove is what a drive came to.
type drove struct {
	load.Phase
	cpu float64 // µs of the cloud for each
}

// drive asks for authorizations. With a profile, it says how much of the CPU went where.
func (e *end) drive(ctx context.Context, p load.Pace, cards int, profile string) (drove, error) {
	if err := e.fleet.Prepare(ctx, cards); err != nil {
		return drove{}, err
	}
	if profile != "" {
		if err := e.far.do("profile " + profile); err != nil {
			return drove{}, err
		}
	}
	was, err := load.CPU(e.far.pid())
	if err != nil {
		return drove{}, err
	}
	ph := e.fleet.Drive(ctx, p)
	now, err := load.CPU(e.far.pid())
	if err == nil && profile != "" {
		err = e.far.do("end")
	}
	// A machine that stands still for a moment finds no device free for what it should have asked meanwhile: that
	// is of the load, not of the cloud.
	busy := ph.Errors[load.NoDevice]
	if err == nil && (ph.Done == 0 || (ph.Failed()-busy)*20 > ph.Done || busy > ph.Done) {
		err = fmt.Errorf("%s: %d done, errors: %v", ph.Name, ph.Done, ph.Errors)
	}
	return drove{ph, float64((now - was).Microseconds()) / float64(max(ph.Done, 1))}, err
}

// beside drives the cloud, and the bare chain for half as long before it and after it, so that both had the
// same minute of a machine whose speed changes.
func (c *chain) beside(ctx context.Context, p load.Pace, rate float64, profile string) (ours, bare drove, err error) {
	half := p
	half.For /= 2
	before, err1 := c.bare.drive(ctx, half, c.cards(rate)/2, bareProfile(profile))
	ours, err2 := c.ours.drive(ctx, p, c.cards(rate), profile)
	after, err3 := c.bare.drive(ctx, half, c.cards(rate)/2, "")
	if err := errors.Join(err1, err2, err3); err != nil {
		return ours, bare, err
	}
	bare.PerSecond = float64(before.Done+after.Done) / (before.Seconds + after.Seconds)
	bare.cpu = (before.cpu*float64(before.Done) + after.cpu*float64(after.Done)) / float64(before.Done+after.Done)
	return ours, bare, nil
}

func (c *chain) cards(rate float64) int { return int(rate*c.o.For.Seconds()) + 1 }

func (c *chain) one(ctx context.Context, raw time.Duration) error {
	p, err := c.ours.drive(ctx, load.Pace{InFlight: 1, For: c.o.For}, c.cards(1000), "")
	if err != nil {
		return err
	}
	floor := roundTrip + unitsOfAnAsk*raw
	if raw == 0 {
		floor = 0
	}
	c.r.less("authorization, 1 in flight, p50", p.P50MS, "ms", ms(floor), limitOfOne)
	c.r.less("authorization, 1 in flight, p99", p.P99MS, "ms", ms(floor), limitOfOne)
	return nil
}

func (c *chain) many(ctx context.Context) error {
	file := filepath.Join(cmp.Or(c.o.Profiles, c.o.Dir), "saturated.pprof")
	p, bare, err := c.beside(ctx, load.Pace{InFlight: manyAtATime, For: c.o.For}, 6000, file)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("authorizations, %d in flight", manyAtATime)
	c.r.more(name, p.PerSecond, "/s", targetRate, "what is wanted of 2 CPUs with load and bank")
	c.r.more("the same beside a bare chain", p.PerSecond, "/s", bare.PerSecond, fmt.Sprintf("the bare chain, same minute; wanted: %.0f %%", 100*targetRate/bareRate))
	c.r.less(name+", p50", p.P50MS, "ms", manyAtATime/targetRate*1000, "as many at that rate")
	c.r.less(name+", p99", p.P99MS, "ms", manyAtATime/targetRate*1000, "as many at that rate")
	if err := c.stages("saturated", p.cpu, targetBusy, bare.cpu, bareBusy, file); err != nil {
		return err
	}
	half := p.PerSecond / 2
	file = filepath.Join(filepath.Dir(file), "paced.pprof")
	p, bare, err = c.beside(ctx, load.Pace{Rate: half, For: c.o.For}, half, file)
	if err != nil {
		return err
	}
	c.r.less("authorization at half that rate, p50", p.P50MS, "ms", ms(roundTrip), "MQTT round trip, one in flight")
	return c.stages("at half that rate", p.cpu, targetPaced, bare.cpu, barePaced, file)
}

// bareProfile is where the bare chain's profile is, beside the cloud's.
func bareProfile(of string) string { return of + ".bare" }

// stages says where the CPU of an authorization went, each stage beside the bare chain's.
func (c *chain) stages(how string, cpu, target, bare, bareTarget float64, file string) error {
	shares, tops, err1 := byStage(file)
	least, _, err2 := byStage(bareProfile(file))
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	c.r.less("cloud CPU per authorization, "+how, cpu, "µs", target, "what is wanted")
	c.r.less("the same beside a bare chain", cpu, "µs", bare, fmt.Sprintf("the bare chain, same minute; wanted: %.0f %%", 100*bareTarget/target))
	for _, s := range stages {
		v := shares[s] * cpu
		c.r.less("· "+s, v, "µs", least[s]*bare, "the bare chain's")
	}
	if c.r.Top == nil {
		c.r.Top = map[string][]top{}
	}
	c.r.Top[how] = tops
	return nil
}

// custody uploads sales that were approved and delivered.
func (c *chain) custody(ctx context.Context) error {
	c.ours.fleet.Keep(true)
	p, err := c.ours.drive(ctx, load.Pace{InFlight: manyAtATime, For: c.o.For / 2}, c.cards(3000), "")
	c.ours.fleet.Keep(false)
	if err != nil {
		return err
	}
	was, err := load.CPU(c.ours.far.pid())
	if err != nil {
		return err
	}
	up := c.ours.fleet.Custody(ctx, manyAtATime)
	now, err := load.CPU(c.ours.far.pid())
	if err == nil && (up.Done != p.Done || up.Failed() > 0) {
		err = fmt.Errorf("custody of %d sales: %d, errors: %v", p.Done, up.Done, up.Errors)
	}
	if err != nil {
		return err
	}
	verify, err := verifying(c.o.For / 20)
	if err != nil {
		return err
	}
	least := us(verify) + unitsOfASale*us(c.unit)
	sales := 1e6 / least
	if c.unit == 0 {
		least, sales = 0, 0
	}
	c.r.less("custody of a sale: cloud CPU", float64((now-was).Microseconds())/float64(up.Done), "µs", least,
		"1 signature verified + 6 units of the bare engine (18 rows: 7 records, capture, its answer), same run")
	c.r.more("custody: sales", up.PerSecond, "/s", sales, "that on one CPU")
	return nil
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// timed calls do for a span and says how long each took.
func timed(span time.Duration, do func() error) (time.Duration, error) {
	began, n := time.Now(), 0
	for time.Since(began) < span || n == 0 {
		if err := do(); err != nil {
			return 0, err
		}
		n++
	}
	return time.Since(began) / time.Duration(n), nil
}

// verifying is one batch's signature.
func verifying(span time.Duration) (time.Duration, error) {
	ca, err := identity.NewAuthority(time.Now())
	if err != nil {
		return 0, err
	}
	b, err := ca.Device("bench", time.Now(), identity.Cloud{})
	if err != nil {
		return 0, err
	}
	topic := protocol.TopicOf("bench", protocol.UpJournal)
	msg, err := b.Signer().Sign(topic, protocol.MustEncode(money.New(1, money.EUR)), nil)
	if err != nil {
		return 0, err
	}
	return timed(span, func() error {
		s, err := seal.ParseSigned(msg)
		if err == nil {
			_, err = s.Verify(topic, &b.Key.PublicKey)
		}
		return err
	})
}
