package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"coinop/cloud"
	"coinop/cloud/acquirer/hostsim"
	"coinop/sim/load"
)

const targetDevice = 48.0 // KB of RSS

// crowd connects many devices to a cloud, and to a listener that does nothing but TLS.
func (r *Report) crowd(ctx context.Context, o Options, dir string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	host, err := hostsim.Open(hostsim.Config{})
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = host.Run(ctx) })

	busy, err := startFar(ctx, o.Self, "cloud", dir, host.Addr())
	if err != nil {
		return err
	}
	defer func() { _ = busy.stop() }()
	fleet, err := load.Open(ctx, load.Options{Addr: busy.addr, Place: cloud.Place{Dir: dir}, Devices: o.Devices})
	if err != nil {
		return err
	}
	defer fleet.Close()
	come, each, err := o.gather(busy, o.Devices, func() load.Phase { return fleet.Connect(ctx, 64) })
	if err != nil {
		return err
	}
	fleet.Hang()
	if err := busy.stop(); err != nil {
		return err
	}
	bare, err := startFar(ctx, o.Self, "tls", dir)
	if err != nil {
		return err
	}
	var hangUp func()
	least, leastEach, err := o.gather(bare, o.Devices, func() load.Phase {
		p, end := fleet.Handshakes(ctx, bare.addr, 64)
		hangUp = end
		return p
	})
	if hangUp != nil {
		hangUp()
	}
	if err := errors.Join(err, bare.stop()); err != nil {
		return err
	}
	same := fmt.Sprintf("crypto/tls alone, %d connections, same run", o.Devices)
	r.less(fmt.Sprintf("memory of an idle device, %d connected", o.Devices), each, "KB", targetDevice, "what is wanted")
	r.less("the same beside TLS alone", each, "KB", leastEach, same)
	r.more("connects: handshake, CONNECT, SUBSCRIBE, first batch", come.PerSecond, "/s", least.PerSecond, same)
	return nil
}

// settle waits until what a beginning left behind is gone.
func (o Options) settle() { time.Sleep(min(o.For, 2*time.Second)) }

// gather lets all come, and says how many KB each costs.
func (o Options) gather(p *process, n int, connect func() load.Phase) (load.Phase, float64, error) {
	was, err := load.RSS(p.pid())
	if err != nil {
		return load.Phase{}, 0, err
	}
	ph := connect()
	if ph.Done != n || ph.Failed() > 0 {
		return ph, 0, fmt.Errorf("%d of %d connected: %v", ph.Done, n, ph.Errors)
	}
	o.settle()
	now, err := load.RSS(p.pid())
	return ph, float64(now-was) / 1024 / float64(n), err
}
