//! Reads descriptor sets and source files of Protocol Buffers.

use std::path::Path;

use prost_reflect::DescriptorPool;
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};
use witgate_config::file;
use witgate_config::model::Transcode;

/// The largest file that is read.
const MOST: u64 = 64 << 20;

/// The annotation of methods, for source files that import it and do not bring it along. It declares what
/// `google/api/annotations.proto` and `google/api/http.proto` declare.
const ANNOTATIONS: [(&str, &str); 2] = [
    (
        "google/api/annotations.proto",
        "syntax = \"proto3\";
         package google.api;
         import \"google/api/http.proto\";
         import \"google/protobuf/descriptor.proto\";
         extend google.protobuf.MethodOptions { HttpRule http = 72295728; }",
    ),
    (
        "google/api/http.proto",
        "syntax = \"proto3\";
         package google.api;
         message Http { repeated HttpRule rules = 1; bool fully_decode_reserved_expansion = 2; }
         message HttpRule {
           string selector = 1;
           oneof pattern {
             string get = 2; string put = 3; string post = 4; string delete = 5; string patch = 6;
             CustomHttpPattern custom = 8;
           }
           string body = 7;
           string response_body = 12;
           repeated HttpRule additional_bindings = 11;
         }
         message CustomHttpPattern { string kind = 1; string path = 2; }",
    ),
];

/// Everything that the files declare.
///
/// # Errors
/// The key of the setting that names a file which cannot be used, and why.
pub(crate) fn load(settings: &Transcode) -> Result<DescriptorPool, (&'static str, String)> {
    let mut pool = DescriptorPool::new();
    if !settings.protos.is_empty() {
        let compiled = compile(settings).map_err(|why| ("protos", why))?;
        pool.decode_file_descriptor_set(&compiled[..]).map_err(|error| ("protos", error.to_string()))?;
    }
    for path in &settings.descriptors {
        let told = |why: String| ("descriptors", format!("`{}`: {why}", path.display()));
        let bytes = file::read(path, MOST).map_err(|error| told(error.to_string()))?;
        pool.decode_file_descriptor_set(&bytes[..]).map_err(|error| {
            told(format!("{error} (it must be a FileDescriptorSet with its imports, as `protoc --include_imports` writes it)"))
        })?;
    }
    Ok(pool)
}

/// The descriptor set of the source files with their imports.
fn compile(settings: &Transcode) -> Result<Vec<u8>, String> {
    let mut resolver = ChainFileResolver::new();
    let own = settings.protos.iter().filter_map(|file| file.parent());
    for folder in settings.includes.iter().map(|folder| folder.as_path()).chain(own) {
        let folder = if folder == Path::new("") { Path::new(".") } else { folder };
        resolver.add(IncludeFileResolver::new(folder.to_owned()));
    }
    resolver.add(GoogleFileResolver::new());
    resolver.add(Annotations);
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    for file in &settings.protos {
        // The error of the compiler shows the place in its `Debug` form only; its text names file and mistake.
        compiler.open_file(file).map_err(|error| format!("`{}`: {error}", file.display()))?;
    }
    Ok(compiler.encode_file_descriptor_set())
}

/// Has the files of [`ANNOTATIONS`].
struct Annotations;

impl FileResolver for Annotations {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match ANNOTATIONS.iter().find(|(file, _)| *file == name) {
            Some((file, source)) => File::from_source(file, source),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}
