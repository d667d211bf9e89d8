//! nginx with Lua, as the cost of programmability in nginx. A script verifies an HS256 token and sets a header.
//!
//! Debian has no HMAC package for this Lua, so the script calls libcrypto, with which nginx is linked, through
//! LuaJIT's foreign functions, as the usual HMAC module does. Claims are read by lua-cjson.

use std::path::{Path, PathBuf};

use super::{Peer, nginx, on_path};
use crate::tokens::SECRET;

pub(crate) static PEER: Peer = Peer {
    name: "nginx + Lua JWT",
    package: "libnginx-mod-http-lua, lua-cjson, lua-resty-core",
    find: |_| modules().and_then(|_| on_path("nginx")),
    version: &["-v"],
    command: |site, scene| {
        let script = site.folder.join("jwt.lua");
        std::fs::write(&script, SCRIPT.replace("SECRET", SECRET))?;
        let modules = modules().unwrap_or_default();
        let load = |name| format!("load_module {};\n", modules.join(name).display());
        let top = load("ndk_http_module.so") + &load("ngx_http_lua_module.so");
        nginx::command(site, scene, &top, &format!("access_by_lua_file {}; ", script.display()))
    },
};

/// The folders in which distributions install the module.
fn modules() -> Option<PathBuf> {
    let folders = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/nginx/modules"];
    let folders = folders.iter().map(Path::new);
    folders.into_iter().find(|folder| folder.join("ngx_http_lua_module.so").is_file()).map(Into::into)
}

/// Uses only functions that LuaJIT compiles: plain finds, no patterns.
const SCRIPT: &str = r#"
local ffi = require "ffi"
local cjson = require "cjson"
local key = "SECRET"

if not package.loaded.bench_hmac then
  ffi.cdef[[
    const void *EVP_sha256(void);
    unsigned char *HMAC(const void *md, const void *key, int key_len,
                        const unsigned char *data, size_t n, unsigned char *out, unsigned int *out_len);
    int CRYPTO_memcmp(const void *a, const void *b, size_t len);
  ]]
  package.loaded.bench_hmac = {
    sha256 = ffi.C.EVP_sha256(), out = ffi.new("unsigned char[32]"), length = ffi.new("unsigned int[1]"),
  }
end
local hmac = package.loaded.bench_hmac

local decode = require("ngx.base64").decode_base64url

local function subject(header)
  if not header or header:sub(1, 7) ~= "Bearer " then return nil end
  local token = header:sub(8)
  local first = token:find(".", 1, true)
  local second = first and token:find(".", first + 1, true)
  if not second then return nil end
  local head = cjson.decode(decode(token:sub(1, first - 1)) or "{}")
  if head.alg ~= "HS256" then return nil end
  local signed, tag = token:sub(1, second - 1), decode(token:sub(second + 1))
  ffi.C.HMAC(hmac.sha256, key, #key, signed, #signed, hmac.out, hmac.length)
  if not tag or #tag ~= 32 or ffi.C.CRYPTO_memcmp(hmac.out, tag, 32) ~= 0 then return nil end
  local claims = cjson.decode(decode(token:sub(first + 1, second - 1)) or "{}")
  if claims.exp and claims.exp < ngx.time() then return nil end
  return claims.sub
end

local caller = subject(ngx.var.http_authorization)
if not caller then return ngx.exit(401) end
ngx.req.set_header("x-caller", caller)
"#;
