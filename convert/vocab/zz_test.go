package vocab
import ("testing";"os";"fmt";"time";"strings";"strconv";"encoding/json";"slices";"github.com/tritter-ai/tritter/tokenizer")
type fj struct{Added_tokens []struct{Content string; Special,Normalized bool; Id int}; Normalizer,Decoder,Post_processor json.RawMessage; Model struct{Vocab map[string]int; Merges []json.RawMessage; Unk_token string; Byte_fallback, Fuse_unk bool}}
func rd(b []byte) (f fj, ms []string){ if err:=json.Unmarshal(b,&f);err!=nil{panic(err)}
 for _,m:=range f.Model.Merges{ var p [2]string; var s string; if json.Unmarshal(m,&p)==nil{ms=append(ms,p[0]+" "+p[1])}else{json.Unmarshal(m,&s);ms=append(ms,s)}}
 return}
func trip(t *testing.T,tok *tokenizer.Tokenizer,p string){
 o,_:=os.ReadFile(p); n,bad:=0,0
 for _,l:=range strings.Split(strings.TrimRight(string(o),"\n"),"\n"){ var ids []int; for _,w:=range strings.Fields(l){i,_:=strconv.Atoi(w);ids=append(ids,i)}
  d,err:=tok.Decode(ids,false); if err!=nil{t.Fatal(err)}; g,_:=tok.Encode(d,tokenizer.EncodeOptions{}); n++; if !slices.Equal(g,ids){bad++; fmt.Printf("%q %v %v\n",d,ids,g)}}
 fmt.Println(p,n,"bad",bad)}
func TestZZ(t *testing.T){
 b,_:=os.ReadFile("/tmp/vocabcheck/llama2.model")
 o,err:=SentencePiece(b); tok,err2:=tokenizer.Parse(o); fmt.Println(err,err2)
 trip(t,tok,"/tmp/vocabcheck/spm.out")
 b,_=os.ReadFile("/tmp/vocabcheck/mistral.model"); s:=time.Now()
 o,err=SentencePiece(b); fmt.Println(len(o),err,time.Since(s))
 h,_:=os.ReadFile("/tmp/vocabcheck/mistral.json")
 f1,m1:=rd(o); f2,m2:=rd(h)
 fmt.Println(len(m1),len(m2),slices.Equal(m1,m2),len(f1.Model.Vocab),len(f2.Model.Vocab),len(f1.Added_tokens),len(f2.Added_tokens), string(f1.Normalizer), string(f2.Normalizer),string(f2.Decoder))
 for i:=range m1{ if m1[i]!=m2[i]{fmt.Println(i,m1[i:i+6],m2[i:i+6]);for _,x:=range m2[i:i+6]{l,r,_:=strings.Cut(x," ");fmt.Print(f2.Model.Vocab[l]," ",f2.Model.Vocab[r],"; ")};break}}
 a,c:=slices.Clone(m1),slices.Clone(m2); slices.Sort(a);slices.Sort(c); fmt.Println("same set",slices.Equal(a,c))
 nd:=0; for k,v:=range f2.Model.Vocab{ if f1.Model.Vocab[k]!=v{nd++}}; fmt.Println("vocab diff",nd, f1.Added_tokens[:5],f2.Added_tokens[:5])
 b,_=os.ReadFile("/tmp/vocabcheck/uni.model"); _,err=SentencePiece(b); fmt.Println(err)
 b,_=os.ReadFile("/tmp/vocabcheck/cl100k.tiktoken"); s=time.Now()
 o,err=Tiktoken(b,map[string]int{"<|endoftext|>":100257,"<|fim_prefix|>":100258},""); fmt.Println(len(o),err,time.Since(s),Detect(b))
 s=time.Now(); tok,err=tokenizer.Parse(o); fmt.Println(err,time.Since(s))
 trip(t,tok,"/tmp/vocabcheck/bpe.out")
 fmt.Println(tok.Encode("a<|endoftext|>b",tokenizer.EncodeOptions{}))
 _,ml:=rd(o); fmt.Println(len(ml))
}
