// Package virtual is the far ends of the protocols: what stands on the other side of a cable, on a
// pty, for demos, simulations and tests. It shares no code with the drivers but the words of protocol:
// a mistake made on both sides would be invisible.
//
//	m, err := virtual.NewMachine(virtual.MachineConfig{Link: "run/vmc", Drops: "run/drops.jsonl",
//		Products: []virtual.Product{{Outlet: 5, Price: money.New(150, money.EUR)}}})
//	go m.Run(ctx)
//	err = m.Select(5)            // a buyer presses a button
//
//	r, err := virtual.NewReader(virtual.ReaderConfig{Link: "run/reader"})
//	go r.Run(ctx)
//	err = r.TapWhenArmed(ctx, virtual.VisaTest())
//
// A far end lives in another process than the agent: the pty, the adapter's session and the vending
// machine outlive the agent's death, as they do on site. Link is a symlink that keeps its name over
// unplugging and restarts; the agent opens that.
package virtual
