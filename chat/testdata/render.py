"""Renders templates/*.jinja and the built-in templates over conversations.json by Jinja's own implementation,
set up as transformers sets it up, and writes golden.json."""
import glob, json, os
import jinja2, jinja2.ext, jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

class Generation(jinja2.ext.Extension):
    tags = {"generation"}
    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_keep"), [], [], body).set_lineno(line)
    def _keep(self, caller):
        return caller()

def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)

def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

here = os.path.dirname(os.path.abspath(__file__))
env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception
conversations = json.load(open(os.path.join(here, "conversations.json")))
out = {}
for path in sorted(glob.glob(os.path.join(here, "templates", "*.jinja")) + glob.glob(os.path.join(here, "..", "templates", "*.jinja"))):
    name = os.path.basename(path)[:-6]
    template = env.from_string(open(path, newline="").read())
    for label, messages in conversations.items():
        for prompt in (False, True):
            try:
                text = {"text": template.render(messages=messages, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>")}
            except jinja2.exceptions.TemplateError as e:
                text = {"error": str(e)}
            out[f"{name}/{label}/{'prompt' if prompt else 'closed'}"] = text
json.dump(out, open(os.path.join(here, "golden.json"), "w"), ensure_ascii=False, indent=0, sort_keys=True)
