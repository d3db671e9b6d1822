// Package mosquitto holds the configuration under which Mosquitto is the broker of the machine plane.
package mosquitto

import (
	_ "embed"
	"fmt"
	"net"
	"path/filepath"
	"strings"
)

//go:embed mosquitto.conf
var conf string

//go:embed acl
var acl string

// Names of the files in a broker's folder.
const (
	ConfFile        = "mosquitto.conf"
	ACLFile         = "acl"
	RootFile        = "root.crt"     // vouches for devices
	ReplicasFile    = "replicas.crt" // vouches for the cloud
	ServerFile      = "server.crt"
	ServerKeyFile   = "server.key"
	RevokedFile     = "revoked.crl" // certificates of machines that are not good any more
	defaultMachines = ":8883"
	defaultClouds   = "127.0.0.1:8884"
)

// Place is where a broker's files lie and where it listens.
type Place struct {
	Dir string // of all files
	// Machines and Clouds are where it listens, host:port, for devices and for the cloud's replicas;
	// ":8883" and "127.0.0.1:8884".
	Machines, Clouds string
}

// Filled returns p with what was left open.
func (p Place) Filled() Place {
	if p.Machines == "" {
		p.Machines = defaultMachines
	}
	if p.Clouds == "" {
		p.Clouds = defaultClouds
	}
	return p
}

// Conf is the text of mosquitto.conf.
func (p Place) Conf() (string, error) {
	p = p.Filled()
	dir, err := filepath.Abs(p.Dir)
	if err != nil {
		return "", err
	}
	machines, err := listener(p.Machines)
	if err != nil {
		return "", err
	}
	clouds, err := listener(p.Clouds)
	if err != nil {
		return "", err
	}
	return strings.NewReplacer("@DIR@", dir, "@MACHINES@", machines, "@CLOUDS@", clouds).Replace(conf), nil
}

// ACL is the text of the access list.
func ACL() string { return acl }

// listener writes host:port as mosquitto.conf wants it: the port, then the address.
func listener(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("address %q: %w", addr, err)
	}
	return strings.TrimSpace(port + " " + host), nil
}
