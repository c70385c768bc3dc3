# Completion for fish(1) of xlatd(8), and of tayga and clatd where they are xlatd.

# The devices that run, by their control sockets, or else the TUN devices: not every user may list
# the sockets.
function __xlatd_devices
    set --local directory /run/xlatd
    set --query RUNTIME_DIRECTORY; and set directory $RUNTIME_DIRECTORY
    set --local sockets $directory/*.sock
    if set --query sockets[1]
        path change-extension '' (path basename $sockets)
    else
        set sockets /sys/class/net/*/tun_flags
        path basename (path dirname $sockets)
    end
end

# __xlatd_runs COMMAND: whether the arguments of this command are completed; xlatd is none.
function __xlatd_runs
    set --local words (commandline --tokenize --current-process --cut-at-cursor)
    switch (path basename $words[1])
        case tayga
            test $argv[1] = xlatd
        case clatd
            test $argv[1] = clat
        case '*'
            if contains -- "$words[2]" check clat container doctor explain metrics status trace
                test $argv[1] = $words[2]
            else
                test $argv[1] = xlatd
            end
    end
end

# Whether a command can be named.
function __xlatd_starts
    set --local words (commandline --tokenize --current-process --cut-at-cursor)
    test (count $words) = 1; and test (path basename $words[1]) = xlatd
end

for name in xlatd tayga clatd
    if test $name != xlatd
        set --local found (command --search $name); or continue
        test (path basename (path resolve $found)) = xlatd; or continue
    end

    complete -c $name -f
    complete -c $name -s h -l help -d 'Print help'
    complete -c $name -s V -l version -d 'Print the version'

    complete -c $name -n __xlatd_starts -a check -d 'Print what a configuration means'
    complete -c $name -n __xlatd_starts -a clat -d 'Run a CLAT'
    complete -c $name -n __xlatd_starts -a container -d 'Translate as the environment says'
    complete -c $name -n __xlatd_starts -a doctor -d 'Say what keeps packets from passing'
    complete -c $name -n __xlatd_starts -a explain -d 'Say what becomes of packets, and why'
    complete -c $name -n __xlatd_starts -a metrics -d 'Print metrics'
    complete -c $name -n __xlatd_starts -a status -d 'Say how those are that run'
    complete -c $name -n __xlatd_starts -a trace -d 'Show packets as they come and as they go'

    complete -c $name -n '__xlatd_runs xlatd' -s c -l config -rF -d 'Configuration'
    complete -c $name -n '__xlatd_runs xlatd' -s d -l debug -d 'Log debug messages and packets'
    complete -c $name -n '__xlatd_runs xlatd' -s n -l nodetach -d 'Stay in the foreground'
    complete -c $name -n '__xlatd_runs xlatd' -s u -l user -x -a '(__fish_complete_users)' \
        -d 'User to become'
    complete -c $name -n '__xlatd_runs xlatd' -s g -l group -x -a '(__fish_complete_groups)' \
        -d 'Group to become a member of'
    complete -c $name -n '__xlatd_runs xlatd' -s r -l chroot -d 'Change the root directory'
    complete -c $name -n '__xlatd_runs xlatd' -s p -l pidfile -rF -d 'File for the process id'
    complete -c $name -n '__xlatd_runs xlatd' -l syslog -d 'Log to syslog'
    complete -c $name -n '__xlatd_runs xlatd' -l stdout -d 'Log to stdout'
    complete -c $name -n '__xlatd_runs xlatd' -l journal -d 'Log to the journal'
    complete -c $name -n '__xlatd_runs xlatd' -l mktun -d 'Create the TUN device, and exit'
    complete -c $name -n '__xlatd_runs xlatd' -l rmtun -d 'Remove the TUN device, and exit'

    complete -c $name -n '__xlatd_runs check' -s c -l config -rF -d 'Configuration'

    complete -c $name -n '__xlatd_runs clat' -s c -l config -rF -d 'Configuration'
    complete -c $name -n '__xlatd_runs clat' -s d -l debug -d 'Log debug messages and packets'
    complete -c $name -n '__xlatd_runs clat' -s q -l quiet -d 'Log warnings only'
    complete -c $name -n '__xlatd_runs clat' -l cleanup -d 'Undo the set-up of a CLAT'
    for key in quiet debug forwarding-enable v4-conncheck-enable v4-defaultroute-enable \
            v4-defaultroute-replace offload sandbox control-socket icmp-node-id
        complete -c $name -n '__xlatd_runs clat' -a "$key={yes,no}"
    end
    for key in script-up script-down clat-dev clat-v4-addr tayga-v4-addr ctmark dns64-servers \
            plat-prefix plat-fallback-prefix route-table v4-conncheck-delay \
            v4-defaultroute-metric v4-defaultroute-mtu v4-defaultroute-advmss cmd-ufw cmd-nft
        complete -c $name -n '__xlatd_runs clat' -a "$key="
    end
    complete -c $name -n '__xlatd_runs clat' -a 'clat-v6-addr={auto,shared,derived}'
    complete -c $name -n '__xlatd_runs clat' -a 'clat-path={direct,forward}'
    complete -c $name -n '__xlatd_runs clat' -a 'plat-dev=(path basename /sys/class/net/*)'

    complete -c $name -n '__xlatd_runs container' -s d -l debug -d 'Log debug messages and packets'
    complete -c $name -n '__xlatd_runs container' -l forwarding -d 'Only have it forward'
    complete -c $name -n '__xlatd_runs container' -a 'nat64 clat'
    complete -c $name -n '__xlatd_runs doctor' -s c -l config -rF -d 'Configuration'
    complete -c $name -n '__xlatd_runs doctor' -l json -d 'Print JSON'
    complete -c $name -n '__xlatd_runs doctor' -l ping -x -d 'The IPv4 address that a CLAT tries'
    complete -c $name -n '__xlatd_runs doctor' -a 'clat (__xlatd_devices)'

    complete -c $name -n '__xlatd_runs explain' -s c -l config -rF -d 'Configuration'
    complete -c $name -n '__xlatd_runs explain' -l live -x -a '(__xlatd_devices)' \
        -d 'By the mappings and leases of what runs'
    complete -c $name -n '__xlatd_runs explain' -s r -l read -rF -d 'Packets of a capture'
    complete -c $name -n '__xlatd_runs explain' -l mtu -x -d 'The MTU'
    complete -c $name -n '__xlatd_runs explain' -l json -d 'Print JSON'
    complete -c $name -n '__xlatd_runs explain' -a clat

    complete -c $name -n '__xlatd_runs metrics' -l listen -x -a '[::1]:10464' -d 'Serve over HTTP'
    complete -c $name -n '__xlatd_runs metrics' -l openmetrics -d 'Print the OpenMetrics format'
    complete -c $name -n '__xlatd_runs metrics' -a '(__xlatd_devices)'

    complete -c $name -n '__xlatd_runs status' -l json -d 'Print JSON'
    complete -c $name -n '__xlatd_runs status' -l watch -d 'Print it again each second'
    complete -c $name -n '__xlatd_runs status' -a '(__xlatd_devices)'

    complete -c $name -n '__xlatd_runs trace' -s w -l write -rF -d 'Write a pcapng file'
    complete -c $name -n '__xlatd_runs trace' -s c -l count -x -d 'End after so many packets'
    complete -c $name -n '__xlatd_runs trace' -a '(__xlatd_devices)'
    complete -c $name -n '__xlatd_runs trace' -a 'host proto port family dropped'
end
