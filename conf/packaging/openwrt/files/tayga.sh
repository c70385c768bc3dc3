#!/bin/sh
# shellcheck shell=dash disable=SC1091,SC2034 # files and variables of netifd
# The protocol tayga of /etc/config/network, by xlatd:
#
#   config interface 'nat64'
#       option proto 'tayga'
#       option ipv4_addr '192.168.255.1'
#       option prefix '2001:db8:1:ffff::/96'
#       option dynamic_pool '192.168.255.0/24'
#
# Others: ipv6_addr; ipaddr and ip6addr, addresses of the router on the device; noroutes.

[ -n "$INCLUDE_ONLY" ] || {
	. /lib/functions.sh
	. ../netifd-proto.sh
	init_proto "$@"
}

proto_tayga_init_config() {
	no_device=1
	available=1
	proto_config_add_string ipv4_addr
	proto_config_add_string ipv6_addr
	proto_config_add_string prefix
	proto_config_add_string dynamic_pool
	proto_config_add_string ipaddr
	proto_config_add_string ip6addr
	proto_config_add_boolean noroutes
}

proto_tayga_setup() {
	local interface="$1" device="tayga-$1" file="/var/etc/tayga-$1.conf"
	local ipv4_addr ipv6_addr prefix dynamic_pool ipaddr ip6addr noroutes
	json_get_vars ipv4_addr ipv6_addr prefix dynamic_pool ipaddr ip6addr noroutes

	mkdir -p /var/etc
	{
		echo "tun-device $device"
		[ -z "$ipv4_addr" ] || echo "ipv4-addr $ipv4_addr"
		[ -z "$ipv6_addr" ] || echo "ipv6-addr $ipv6_addr"
		[ -z "$prefix" ] || echo "prefix $prefix"
		if [ -n "$dynamic_pool" ]; then
			echo "dynamic-pool $dynamic_pool"
			echo "data-dir /var/lib/tayga-$interface"
		fi
	} >"$file"

	# xlatd logs what is wrong with the options.
	if ! /usr/sbin/xlatd --syslog --config "$file" --mktun; then
		proto_notify_error "$interface" INVALID_CONFIGURATION
		proto_block_restart "$interface"
		return 1
	fi
	if [ -n "$dynamic_pool" ]; then
		mkdir -p "/var/lib/tayga-$interface"
		chown xlatd:xlatd "/var/lib/tayga-$interface"
	fi
	ip link set dev "$device" up

	proto_init_update "$device" 1
	[ -z "$ipaddr" ] || proto_add_ipv4_address "$ipaddr" 32
	[ -z "$ip6addr" ] || proto_add_ipv6_address "$ip6addr" 128
	if [ "$noroutes" != 1 ]; then
		[ -z "$prefix" ] || proto_add_ipv6_route "${prefix%/*}" "${prefix#*/}"
		[ -z "$dynamic_pool" ] || proto_add_ipv4_route "${dynamic_pool%/*}" "${dynamic_pool#*/}"
	fi
	proto_send_update "$interface"

	proto_run_command "$interface" /usr/sbin/xlatd --nodetach --syslog --user xlatd \
		--config "$file"
}

proto_tayga_teardown() {
	local interface="$1" file="/var/etc/tayga-$1.conf"
	proto_kill_command "$interface"
	/usr/sbin/xlatd --syslog --config "$file" --rmtun
	rm -f "$file"
}

[ -n "$INCLUDE_ONLY" ] || add_protocol tayga
