package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"coinop/cloud"
	"coinop/deploy/mosquitto"
)

func brokerCommand() *cobra.Command {
	c := &cobra.Command{Use: "broker", Short: "Prepare a broker outside this service"}
	c.AddCommand(brokerMosquitto())
	return c
}

func brokerMosquitto() *cobra.Command {
	var (
		place cloud.Place
		at    mosquitto.Place
		hosts []string
	)
	c := &cobra.Command{
		Use:   "mosquitto --dir DIR --out DIR --host NAME",
		Short: "Write the folder of a Mosquitto that this service is to use",
		Long: `mosquitto writes everything a Mosquitto 2 needs to be the broker the machines connect to, in place
of the one inside the service: mosquitto.conf and acl, a key and certificate for its --host names, and
the roots that vouch for machines and for replicas of this service, and the list of revoked machines.

Machines connect to --listen, replicas (serve --broker) to --replicas. Do it again, and send mosquitto
SIGHUP, after device revoke and device add --replace, and before the certificate ends in a year:
revocations, key and certificate are written anew, mosquitto.conf and acl are left alone.`,
		Example: `  coinop-cloud broker mosquitto --dir /var/lib/coinop --out /etc/coinop-mosquitto --host pos.example.com
  chown -R mosquitto /etc/coinop-mosquitto
  mosquitto -c /etc/coinop-mosquitto/mosquitto.conf
  coinop-cloud serve --dir /var/lib/coinop --broker mqtts://127.0.0.1:8884 --store postgres://… --acquirer …`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			at = at.Filled()
			if err := place.WriteMosquitto(c.Context(), at, hosts); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "mosquitto -c %s\nthen: coinop-cloud serve --broker mqtts://%s ...\n",
				filepath.Join(at.Dir, mosquitto.ConfFile), at.Clouds)
			return err
		},
	}
	f := c.Flags()
	placeFlags(c, &place.Dir, &place.Store)
	f.StringVar(&at.Dir, "out", "", "folder of the broker's files (needed)")
	f.StringArrayVar(&hosts, "host", []string{"127.0.0.1", "localhost"}, "name or address machines and replicas reach the broker by; may be repeated")
	f.StringVar(&at.Machines, "listen", "", "address for machines (:8883)")
	f.StringVar(&at.Clouds, "replicas", "", "address for replicas of this service (127.0.0.1:8884)")
	_ = c.MarkFlagRequired("out")
	return c
}
