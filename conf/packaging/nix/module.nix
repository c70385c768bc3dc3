# Translators and CLAT of NixOS, by the units of the package. In configuration.nix:
#
#   imports = [ .../conf/packaging/nix/module.nix ];
#   services.xlatd.translators.nat64 = ''
#     tun-device nat64
#     ...
#   '';
#   services.xlatd.clat.enable = true;
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.xlatd;

  # nft(8) is run by the CLAT, ip(8) and awk(1) by tayga-link.
  path = [
    pkgs.gawk
    pkgs.iproute2
    pkgs.nftables
  ];

  # The value of a key in clatd.conf.
  value = v: if lib.isBool v then (if v then "yes" else "no") else toString v;
in
{
  options.services.xlatd = {
    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { }";
      description = "The package of xlatd.";
    };

    translators = lib.mkOption {
      type = lib.types.attrsOf lib.types.lines;
      default = { };
      example = {
        nat64 = ''
          tun-device nat64
          ipv4-addr 192.168.255.1
          prefix 2001:db8:1:ffff::/96
          dynamic-pool 192.168.255.0/24
          tun-up yes
          tun-route 2001:db8:1:ffff::/96
          tun-route 192.168.255.0/24
        '';
      };
      description = ''
        Translators: the name of each, and its {manpage}`tayga.conf(5)`. The service of NAME is
        `tayga@NAME`. Forwarding, and masquerading of a pool, are set elsewhere
        (`boot.kernel.sysctl`, `networking.nat`); `xlatd doctor` says what is missing.
      '';
    };

    clat = {
      enable = lib.mkEnableOption "IPv4 on IPv6-only networks (464XLAT)";
      settings = lib.mkOption {
        type = lib.types.attrsOf (
          lib.types.oneOf [
            lib.types.bool
            lib.types.int
            lib.types.str
          ]
        );
        default = { };
        example = {
          v4-conncheck-delay = 30;
        };
        description = "Keys of clatd.conf ({manpage}`xlatd-clat(8)`).";
      };
    };

    metrics = {
      enable = lib.mkEnableOption "metrics for Prometheus ({manpage}`xlatd-metrics(8)`)";
      listen = lib.mkOption {
        type = lib.types.str;
        default = "[::1]:10464";
        description = "The address and port of the HTTP server.";
      };
    };
  };

  config = lib.mkIf (cfg.translators != { } || cfg.clat.enable || cfg.metrics.enable) {
    assertions = [
      {
        assertion = !(cfg.clat.enable && (config.services.clatd.enable or false));
        message = "services.xlatd.clat replaces services.clatd: enable only one of them.";
      }
    ];

    environment.systemPackages = [ cfg.package ];
    environment.etc =
      lib.mapAttrs' (
        name: text: lib.nameValuePair "tayga/${name}.conf" { inherit text; }
      ) cfg.translators
      // lib.optionalAttrs cfg.clat.enable {
        "clatd.conf".text = lib.concatStrings (
          lib.mapAttrsToList (key: v: "${key}=${value v}\n") cfg.clat.settings
        );
      };

    users.groups.xlatd = { };
    users.users.xlatd = {
      isSystemUser = true;
      group = "xlatd";
      description = "IPv4/IPv6 translator";
    };

    # The units are the package's; NixOS ignores their [Install] sections, which wantedBy replaces.
    systemd.packages = [ cfg.package ];
    systemd.services =
      lib.mapAttrs' (
        name: text:
        lib.nameValuePair "tayga@${name}" {
          inherit path;
          overrideStrategy = "asDropin";
          wantedBy = [ "multi-user.target" ];
          restartTriggers = [ text ];
        }
      ) cfg.translators
      // lib.optionalAttrs cfg.clat.enable {
        xlatd-clat = {
          inherit path;
          wantedBy = [ "multi-user.target" ];
          restartTriggers = [ config.environment.etc."clatd.conf".text ];
        };
      }
      // lib.optionalAttrs cfg.metrics.enable {
        xlatd-metrics = {
          wantedBy = [ "multi-user.target" ];
          environment.LISTEN = cfg.metrics.listen;
        };
      };
  };
}
