package mdb

import (
	"context"
	"fmt"

	"coinop/hardware"
)

// Port is what stands between a bus and us.
type Port uint8

// Ports. Qibixx's are two of its modes, Waferstar's two of its products.
const (
	PortRaw       Port = iota // nothing: a serial line with parity at the bus itself (OpenRaw)
	PortQibixx                // an MDB-USB or MDB Pi HAT: as a device State, as the master qibixxMaster
	PortWaferstar             // as a device an RS232-MDB (PC2MDB, Pi2MDB), as the master an MDB-RS232
)

// SeesAck reports whether a device at it hears that the controller has heard what it said. An adapter
// keeps that to itself.
func (p Port) SeesAck() bool { return p == PortRaw }

// Config is where a bus is. The zero value of a field is its default.
type Config struct {
	Device string         // the driver's name in Health; "vmc", "cash" or "terminal"
	Path   string         // the port; required
	Port   Port           // what stands there
	Clock  hardware.Clock // of At in events; starts at New
}

func (c *Config) defaults(device string) {
	if c.Device == "" {
		c.Device = device
	}
	if c.Clock == nil {
		c.Clock = hardware.Since()
	}
}

// device opens a port at which we are a device.
func (c *Config) device(context.Context) (hardware.Port, error) {
	switch c.Port {
	case PortQibixx:
		return hardware.OpenTTY(c.Path, 115200)
	case PortWaferstar:
		return hardware.OpenTTY(c.Path, 9600)
	case PortRaw:
	}
	return OpenRaw(c.Path)
}

// master opens a port at which we are the master; it gives and takes the words of the bus, whatever it is.
func (c *Config) master(context.Context) (hardware.Port, error) {
	switch c.Port {
	case PortQibixx:
		return openMaster(c.Path, 115200, &qibixxMaster{})
	case PortWaferstar:
		return openMaster(c.Path, 9600, &waferMaster{})
	case PortRaw:
	}
	return OpenRaw(c.Path)
}

func wrong(device string, err error) error { return fmt.Errorf("mdb %s: %w", device, err) }
