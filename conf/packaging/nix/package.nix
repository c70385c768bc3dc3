# callPackage ./package.nix { }
{
  lib,
  rustPlatform,
  bash,
  # Other names of the program, such as [ "tayga" "clatd" ], for modules that run it by those.
  names ? [ ],
}:

let
  top = ../../..;
  manifest = builtins.fromTOML (builtins.readFile (top + "/Cargo.toml"));
in
rustPlatform.buildRustPackage {
  pname = manifest.package.name;
  inherit (manifest.package) version;

  src = lib.cleanSource top;
  cargoLock.lockFile = top + "/Cargo.lock";

  # The kernel tests need root.
  cargoTestFlags = [
    "--lib"
    "--bins"
  ];

  nativeBuildInputs = [ bash ];

  # Everything else has its place by the project's own script. Nix itself makes sbin a link to bin.
  postInstall = ''
    mv $out/bin/xlatd built
    rmdir $out/bin
    BINARY=$PWD/built DESTDIR=/. PREFIX=$out bash scripts/install --init systemd \
      --names '${lib.concatStringsSep "," names}'
    rm $out/lib/xlatd/manifest
  '';

  meta = {
    inherit (manifest.package) description;
    license = with lib.licenses; [
      mit
      asl20
    ];
    mainProgram = "xlatd";
    platforms = lib.platforms.linux;
  };
}
