# A stand-in for what package.nix and module.nix use of nixpkgs, with the types of options checked:
# `package ARGUMENTS` is what buildRustPackage is given, `system CONFIGURATION` what the module says
# of the system that has it.
rec {
  lib = rec {
    inherit (builtins) isBool concatStringsSep attrNames;
    concatStrings = concatStringsSep "";
    nameValuePair = name: value: { inherit name value; };
    mapAttrs' = f: set: builtins.listToAttrs (mapAttrsToList f set);
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
    optionalAttrs = condition: set: if condition then set else { };
    literalExpression = text: { inherit text; };
    cleanSource = path: path;
    licenses = {
      mit = "MIT";
      asl20 = "Apache-2.0";
    };
    platforms.linux = [ "x86_64-linux" ];

    mkOption = option: option // { _type = "option"; };
    mkEnableOption =
      what:
      mkOption {
        type = types.bool;
        default = false;
        description = "Whether to enable ${what}.";
      };
    mkIf = condition: set: if condition then set else { };

    types = {
      bool = builtins.isBool;
      int = builtins.isInt;
      str = builtins.isString;
      lines = builtins.isString;
      package = value: value ? outPath;
      attrsOf =
        type: value: builtins.isAttrs value && builtins.all type (builtins.attrValues value);
      oneOf = types: value: builtins.any (type: type value) types;
    };
  };

  package = arguments: import ./package.nix (arguments // {
    inherit lib;
    bash = "/nix/store/bash";
    rustPlatform.buildRustPackage = attributes: attributes;
  });

  get = set: name: if set == null then null else set.${name} or null;

  # The values of options: those that are set, or the defaults.
  values =
    path: options: set:
    if options._type or "" == "option" then
      let
        value = if set == null then options.default else set;
      in
      assert builtins.isString (options.description or null) || throw "${path} has no description";
      if options.type value then value else throw "${path} has a value of another type"
    else
      let
        known = builtins.attrNames options;
        unknown = if set == null then { } else builtins.removeAttrs set known;
      in
      if unknown != { } then
        throw "${path} has no option ${toString (builtins.attrNames unknown)}"
      else
        builtins.mapAttrs (
          name: option: values "${path}.${name}" option (get set name)
        ) options;

  system =
    configuration:
    let
      module = import ./module.nix {
        inherit lib;
        config = {
          inherit (result) environment;
          services = configuration.services // {
            inherit xlatd;
          };
        };
        pkgs = {
          callPackage = _: _: { outPath = "/nix/store/xlatd"; };
          gawk = "gawk";
          iproute2 = "iproute2";
          nftables = "nftables";
        };
      };
      xlatd = values "services.xlatd" module.options.services.xlatd configuration.services.xlatd;
      result = module.config;
    in
    builtins.deepSeq xlatd result;
}
